"""The web page of a hub: where its nodes are. It is a separate process that queries the hub's control socket."""
