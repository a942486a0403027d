"""The hub of mobile nodes: Map-Server, Map-Resolver, RTR and proxy on one rented machine."""
