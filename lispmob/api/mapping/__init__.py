"""The control socket for mappings: requests and replies, methods, and the daemon's interface."""
