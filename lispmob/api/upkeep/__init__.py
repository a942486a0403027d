"""The control socket for who looks after the node."""
