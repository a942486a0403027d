"""The control socket: its schema, its server in lispd, its client, and the command line on top."""
