"""LISP-DDT (RFC 8111): a tree that says which Map-Server has an EID. Our part as a node of it, and as its client."""
