"""Process: lispd where a small system lacks optional parts: D-Bus libraries, netifaces, cffi's compiler.

Debian's package leaves the compiler out; OpenWrt has no D-Bus; Termux has nothing that builds netifaces.
"""

from __future__ import annotations

import sys
from importlib import import_module

ABSENT = ("dbus_next", "dbus_fast", "netifaces", "cffi", "pycparser")


def main(arguments: list[str]) -> int:
    """`arguments` are lispd's, or begin with the name of another module, whose main() is called."""
    for name in ABSENT:
        sys.modules[name] = None  # type: ignore[assignment] # the import system takes it for "is not there"
    program = arguments.pop(0) if arguments[0].startswith("lispmob.") else "lispmob.__main__"
    code: int = import_module(program).main(arguments)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
