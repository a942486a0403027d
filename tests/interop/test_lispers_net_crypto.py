"""Data encrypted as lispers.net does it, with its own xTR."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.interop import lispers_net
from tests.interop.cables import Cables, cables
from tests.interop.lispers_net import NEEDS_IT
from tests.interop.test_lispers_net_traffic import OURS, PATIENCE_S, PINGS, THEIRS, start_theirs, wait_for_both

pytestmark = NEEDS_IT


@pytest.fixture
def wired(tmp_path: Path) -> Iterator[Cables]:
    with cables(tmp_path) as made:
        yield made


def test_their_xtr_and_our_node_encrypt_for_each_other_and_say_that_it_is_obfuscation(
    wired: Cables, record_property: Callable[[str, object], None]
) -> None:
    wired.start_hub()
    lispers_net.prepare_xtr(wired["theirs"], THEIRS, wired.gateway("theirs"))
    text = lispers_net.xtr(wired.hub_address, THEIRS, encrypts=True)
    start_theirs(wired, "theirs", text, "lisp-itr", "lisp-etr")
    wired.start_ours("auto", (f"{OURS}/32",), proxy_reply="no", more="security: {dialects: [lispers-net]}")
    wait_for_both(wired)

    def counter(name: str) -> int:
        found: int = wired.lispctl("ours", "counters")["datapath"].get(name, 0)
        return found

    deadline = time.monotonic() + PATIENCE_S
    while not (counter("out_obfuscated") and counter("data_obfuscated")) and time.monotonic() < deadline:
        wired.pings("ours", OURS, THEIRS, 2)
    assert wired.pings("ours", OURS, THEIRS, PINGS) == PINGS
    assert wired.pings("theirs", THEIRS, OURS, PINGS) == PINGS
    record_property("out, in", (counter("out_obfuscated"), counter("data_obfuscated")))

    (peer,) = [one for one in wired.lispctl("ours", "peers")["entries"] if one["eid"] == f"{THEIRS}/32"]
    assert peer["seal"]["state"] == "obfuscated (lispers.net)"
    assert counter("out_obfuscated") >= PINGS
    assert counter("data_obfuscated") >= PINGS
