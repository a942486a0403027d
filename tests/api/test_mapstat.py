"""lispctl mapstat and stat: OpenLISP's table and counters."""

from __future__ import annotations

import json

from lispmob.datapath.model import LOSSES
from lispmob.lispctl.show.stat import RECEIVED, SENT, stat_of
from tests.api.conftest import Ctl
from tests.api.fake_backend import Served
from tests.control.support import prefix

TABLE = """\
Mapping tables

Internet:
EID          FLAGS  REFS  #  RLOC             P    W  F    MTU  CHOSEN
10.0.0.1/32  ULS       0  1  198.51.100.10    1  100  Ri  1500       -
                          2  203.0.113.20     2   50  Ri  1420       -
10.2.0.0/16  US        1  1  192.0.2.9        1  100  R   1400       7
                          2  192.0.2.10     255  100  -      -       0
10.9.0.0/16  S         0  -  -                -    -  -      -       -

Internet6:
EID              FLAGS  REFS  #  RLOC       P  W  F   MTU  CHOSEN
2001:db8:9::/48  U         1  1  192.0.2.9  3  4  R  1400       7
"""


def fill(ctl: Ctl, daemon: Served) -> None:
    ctl("map -q add -inet 10.2.0.0/16 -inet 192.0.2.9 1 100 1 -inet 192.0.2.10")
    ctl("map -q add -negative -inet 10.9.0.0/16")
    ctl("map -q add -nostatic 2001:db8:9::/48 192.0.2.9,3,4")
    parts = daemon.backend.parts
    daemon.run(lambda: parts.perform(parts.node.on_used([prefix("10.2.0.0/16")], parts.clock)))


def test_cache_and_database_are_one_table(ctl: Ctl, daemon: Served) -> None:
    fill(ctl, daemon)

    shown = [ctl("mapstat -n"), ctl("mapstat -X -n")]

    assert shown == [TABLE, TABLE]


def test_one_family_may_be_asked_for_and_programs_get_the_same_as_json(ctl: Ctl, daemon: Served) -> None:
    fill(ctl, daemon)

    found = json.loads(ctl("mapstat -f inet6 --json"))["entries"]

    assert [(one["prefix"], one["table"], one["flags"]) for one in found] == [("2001:db8:9::/48", "cache", "U")]
    assert found[0]["locators"][0] == {
        "address": "192.0.2.9", "priority": 3, "weight": 4, "flags": "R", "mtu_bytes": 1400, "chosen": 7
    }  # fmt: skip


def test_an_open_question_is_a_reference(ctl: Ctl, daemon: Served) -> None:
    ctl("map -q add -nostatic 10.2.0.0/16 192.0.2.9")
    parts = daemon.backend.parts

    def smr() -> None:
        from lispmob.protocol.effect import RefreshNeeded

        parts.perform(parts.node._route([RefreshNeeded(prefix("10.2.0.0/16"))], parts.clock))

    before = json.loads(ctl("mapstat --json"))["entries"][1]["refs"]
    daemon.run(smr)

    assert json.loads(ctl("mapstat --json"))["entries"][1]["refs"] == before + 1


def test_every_loss_of_the_datapath_is_in_one_line_and_nothing_else_is() -> None:
    named = [name for names in (*RECEIVED.values(), *SENT.values()) for name in names]

    assert sorted(named) == sorted(LOSSES)


def test_what_came_in_and_went_out_adds_up() -> None:
    counters = {"data_packets": 10, "data_short": 1, "data_source": 3, "data_moved": 1, "out_packets": 20}
    counters |= {"out_pending_full": 2, "out_toobig": 4, "out_miss": 5}

    stat = stat_of({"datapath": counters})

    assert (stat["lisp"]["received"], stat["lisp"]["delivered"]) == (13, 10)
    assert (stat["lisp"]["output"], stat["lisp"]["dropped_on_output"], stat["lisp"]["sent"]) == (26, 6, 20)
    assert stat["lisp"]["dropped"]["dropped due to cache-miss"] == 2
    assert stat["cache"] == {"hit": 20, "miss": 5}


def test_stat_and_the_words_of_mapstat_print_the_same(ctl: Ctl) -> None:
    assert ctl("stat") == ctl("mapstat -s -p lisp")
    assert ctl("stat").startswith("lisp:\n\t0 datagrams received\n\t\t0 with incomplete header\n")
    assert set(json.loads(ctl("stat --json"))) == {"lisp", "cache"}
