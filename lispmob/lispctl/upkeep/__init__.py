"""Commands for the administrator of the node: one file each."""
