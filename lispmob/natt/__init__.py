"""NAT traversal: what stands between an uplink and the Internet, and the way around it. Pure, but for its adapters."""
