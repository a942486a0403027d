"""UDP 4342 for the node and the hub: the sockets, what a flood may cost, and ICMP errors."""
