"""Command-line tools that work without lispd: lig queries the mapping system, lisp-echo measures what arrives."""

from __future__ import annotations

import sys

# On Python 3.11 msgspec imports typing_extensions if it is installed, but does not need it. That import also loads
# inspect and ast, which takes a fifth of lig's start-up time. A later import of typing_extensions works as usual.
if "typing_extensions" not in sys.modules:
    sys.modules["typing_extensions"] = None  # type: ignore[assignment]  # makes the import fail
    try:
        import msgspec  # noqa: F401 - imported here once for all modules
    finally:
        del sys.modules["typing_extensions"]
