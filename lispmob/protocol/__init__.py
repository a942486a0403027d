"""What all machines of the node, the hub and NAT traversal share: effects, locators, limits, tables. Pure."""
