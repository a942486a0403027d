"""Applies the decisions of `mh/` to the kernel (routes, rules, chains, connection tracking): read, compare, change."""
