"""Commands about mappings: one file each."""
