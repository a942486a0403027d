"""Flows to names inside lispd: the server on the control socket, sockets handed over, names."""
