"""The subcommands of lisphub, clients of the running hub."""
