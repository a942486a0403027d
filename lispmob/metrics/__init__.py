"""Figures of hub and node for Prometheus, made from the answers of their sockets. The daemons do not depend on it."""
