"""The other side of a mobile node, embedded: Map-Server, Map-Resolver and proxy on one rented machine."""
