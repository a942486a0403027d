"""UDP 4342 for the node and the hub: the sockets, limits for floods, and ICMP errors."""
