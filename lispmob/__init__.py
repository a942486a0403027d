"""lispmob: a LISP mobile node (RFC 9300, RFC 9301) that keeps its addresses while it moves."""
