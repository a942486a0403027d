"""Map-Server and Map-Resolver: sites, registrations, answers, names (RFC 9301, section 8). Pure."""
