"""The laboratory: namespaces, lines with delay and loss, measurements. It starts processes, it imports no daemon."""
