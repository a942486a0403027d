"""NAT traversal: finds out what is between an uplink and the Internet, and keeps the uplink reachable. Pure, except for
its adapters.
"""
