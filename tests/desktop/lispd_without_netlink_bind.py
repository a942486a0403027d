"""Process: lispd where bind() is refused to netlink sockets, and to no others, as Android's policy does.

seccomp cannot tell the bind() of one address family from another's. Python makes every netlink socket of ours.
"""

from __future__ import annotations

import errno
import socket
import sys
from typing import Any

from lispmob.__main__ import main


class Refused(socket.socket):
    """A socket that may not bind to netlink."""

    def bind(self, address: Any) -> None:
        """Refuse as the kernel does under such a policy."""
        if self.family == socket.AF_NETLINK:
            raise PermissionError(errno.EACCES, "Permission denied")
        super().bind(address)


if __name__ == "__main__":
    socket.socket = Refused  # type: ignore[misc]
    sys.exit(main())
