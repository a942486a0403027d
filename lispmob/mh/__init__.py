"""Multihoming: which uplink a flow takes, and the kernel state for that."""
