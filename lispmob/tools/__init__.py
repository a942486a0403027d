"""Tools that stand beside lispd and need none: lig asks the mapping system, lisp-echo measures what arrives."""

from __future__ import annotations

import sys

# msgspec looks for typing_extensions, does without where there is none, and needs it for nothing on Python 3.11. It
# brings inspect and ast along, a fifth of the time that lig takes to start. A later import of it works as ever.
if "typing_extensions" not in sys.modules:
    sys.modules["typing_extensions"] = None  # type: ignore[assignment]  # how an import is told that there is none
    try:
        import msgspec  # noqa: F401 - imported once for all
    finally:
        del sys.modules["typing_extensions"]
