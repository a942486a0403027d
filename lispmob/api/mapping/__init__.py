"""The control socket about mappings: requests and replies, methods, and what they need of the daemon."""
