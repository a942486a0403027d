"""lispctl: one file per command. Nothing here imports more than the standard library and the client."""
