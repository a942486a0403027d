"""A demonstration of several hubs that share a registry: six servers, three hubs, and how faults affect nodes."""
