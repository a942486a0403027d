"""Process: the web server that NetworkManager's check asks. Clients in the portal get a login page.

portal.py ADDRESS PORT DIRECTORY     (a client whose address names a file in DIRECTORY is in the portal)
"""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FREE = b"free"


class Portal(BaseHTTPRequestHandler):
    """Answers every GET."""

    def do_GET(self) -> None:
        """Send the text that NetworkManager waits for, or a login page."""
        body = b"<html>log in</html>" if (Path(sys.argv[3]) / self.client_address[0]).exists() else FREE
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class's name for it
        """Log nothing."""


if __name__ == "__main__":
    ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Portal).serve_forever()
