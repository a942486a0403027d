"""`lisphub --show`: the registrations from the running hub, or without one, from its state file."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from operator import itemgetter
from typing import Final

from lispmob.errors import NotRunning
from lispmob.hub.asking import Answer, ask
from lispmob.hub.config import HubFile
from lispmob.hub.map_server.part import XtrRegistration
from lispmob.hub.store.store import Clock, Store
from lispmob.logs import harmless
from lispmob.wire.key_record import without_key_record

EXIT_NOT_RUNNING: Final = 3  # as lispctl


def show(file: HubFile) -> int:
    """Print one line per registration; the exit code. Raises LispError if neither hub nor file is available."""
    try:
        answer = ask(file.control_socket, "registrations")
    except NotRunning as absent:
        sys.stderr.write(f"{absent}; what it kept when it last wrote its state file:\n")
        if file.state_file is None:
            sys.stderr.write("nothing: state-file is none\n")
        elif not file.state_file.exists():
            sys.stderr.write(f"nothing: there is no {file.state_file}\n")
        else:
            _print(sorted(entries(_kept(file), time.monotonic()), key=itemgetter("eid")))
        return EXIT_NOT_RUNNING
    _print(sorted(answer["registrations"], key=itemgetter("eid")))
    if (problem := answer.get("problem")) is not None:
        sys.stderr.write(f"{problem}\n")
    return 0


def entries(parts: Iterable[XtrRegistration], now: float) -> list[Answer]:
    """The displayed fields of registrations."""
    return [
        {
            "eid": _eid_text(part),
            "rlocs": [
                f"{locator.ip or locator.address}({locator.priority}/{locator.weight})"
                for locator in without_key_record(part.record).locators
            ],
            "left_s": round(part.expires_at - now),
            "xtr_id": part.xtr_id.hex() if part.xtr_id is not None else None,
        }
        for part in parts
    ]


def _eid_text(part: XtrRegistration) -> str:
    return str(part.record.eid_prefix or f"name {part.record.eid}")


def _kept(file: HubFile) -> list[XtrRegistration]:
    assert file.state_file is not None
    store = Store(file.state_file, Clock(time.monotonic, time.time))
    store.open_to_read()
    try:
        parts = store.load_parts()
    finally:
        store.close()
    return parts


def _print(listed: Iterable[Answer]) -> None:
    for row in listed:
        where = harmless(" ".join(row["rlocs"])) or "no locator"
        sys.stdout.write(f"{row['eid']}  {where}  {row['left_s']} s left\n")
