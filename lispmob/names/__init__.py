"""Host names for ordinary programs: a DNS server for one domain, and how the resolvers of the host come to ask it."""
