"""Work beside the event path: the kernel's tables, steering, leases of `lispctl run`, the desktop, measuring."""
