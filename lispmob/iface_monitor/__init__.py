"""The interface monitor: which networks the host is attached to, and why that changed."""
