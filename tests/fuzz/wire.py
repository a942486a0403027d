"""Atheris on all decoders: `python -m tests.fuzz.wire CORPUS -runs=1000000` (libFuzzer's options)."""

from __future__ import annotations

import sys

import atheris

READERS = (
    "lispmob.wire",
    "lispmob.flow.message",
    "lispmob.control.sealing",
    "lispmob.joining",
    "lispmob.hub.inviting",
    "lispmob.names",
    "lispmob.tools.echo_message",
)

with atheris.instrument_imports(include=list(READERS)):
    from tests.fuzz.targets import try_all


def main() -> None:
    """Until an input breaks a promise, or there were enough of them."""
    atheris.Setup(sys.argv, try_all)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
