"""Commands for who looks after the node: one file each."""
