"""LISP-DDT (RFC 8111): a tree that delegates EID-Prefixes to Map-Servers. The node's and the client's side."""
