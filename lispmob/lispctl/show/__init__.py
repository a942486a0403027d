"""Commands that show the node: one file each."""
