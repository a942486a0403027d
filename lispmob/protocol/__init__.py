"""What every machine of the node, the hub and NAT traversal speaks: effects, locators, limits, tables. Pure."""
