"""A demonstration of several hubs that share a registry: six servers, three hubs, and what nodes notice of faults."""
