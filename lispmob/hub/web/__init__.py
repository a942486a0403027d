"""The page of a hub: who is where, for a browser. A process of its own, which asks the hub's socket."""
