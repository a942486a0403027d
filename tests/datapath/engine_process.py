"""Process: a host of netlab.py, with an engine, applications and its interfaces. JSON commands in, JSON answers out."""

from __future__ import annotations

import json
import sys
from typing import Any

from tests.datapath.host_applications import Applications
from tests.datapath.host_engine import HostEngine
from tests.datapath.host_interfaces import Interfaces


def main() -> None:
    parts = (HostEngine(), Applications(), Interfaces())
    print("ready", flush=True)  # noqa: T201
    for line in sys.stdin:
        request = json.loads(line)
        verb = request.pop("do")
        try:
            command = next(found for part in parts if (found := getattr(part, verb, None)) is not None)
            answer: dict[str, Any] = {"result": command(**request)}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
