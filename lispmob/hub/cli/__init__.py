"""The subcommands of lisphub: they ask the running hub, and change nothing by themselves."""
