"""Host names for ordinary programs: a DNS server for one domain, and the configuration of the host's resolver."""
