"""Background work: the kernel's tables, steering, leases of `lispctl run`, the desktop, measuring."""
