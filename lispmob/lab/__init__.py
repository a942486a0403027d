"""The laboratory: namespaces, lines with delay and loss, measurements. It starts the daemons as processes."""
