"""The control socket for administrators of the node."""
