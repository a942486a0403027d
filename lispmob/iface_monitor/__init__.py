"""Uplink watch: what the host is attached to, and why that changed."""
