"""The mobile node's protocol machines: inputs with `now`, outputs as effects, no sockets, no clock, no tasks."""
