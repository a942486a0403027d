"""Commands about single flows and peers: one file each."""
