"""What `mh/` decided, in the kernel: routes, rules, chains, connection tracking. Each is read, compared, changed."""
