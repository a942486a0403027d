"""Netlink by hand, for the few requests that pyroute2 does not serve: one request, its answers, their attributes."""
