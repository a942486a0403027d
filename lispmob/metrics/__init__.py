"""Figures of hub and node for Prometheus. The daemons know nothing of it: it is made of what their sockets answer."""
