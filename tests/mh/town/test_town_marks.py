"""Marks and rules with two real nodes, with and without bpf(2), by the counters of the interfaces."""

from __future__ import annotations

import time

import pytest

from tests.mh.town.town import B, Town, town, wait_for

pytestmark = [pytest.mark.netns, pytest.mark.parametrize("has_bpf", [True, False], ids=["program", "devices"])]

RULES = """\
steering:
  unusable-mark: drop
  rules:
    - {name: calls, protocol: [udp], ports: [5000-5010], via: [lte0, wlan0]}
    - {name: never, protocol: [udp], ports: [5020], via: [eth7], otherwise: drop}
"""


def mangle(town: Town) -> str:
    return town.a.run("iptables-save", "-t", "mangle")


def test_a_rule_that_was_written_for_lispmob_works_unchanged(has_bpf: bool) -> None:
    with town(has_bpf=has_bpf) as here:
        before = here.by_uplink(50)
        here.a.run(*f"iptables -t mangle -I OUTPUT -d {B.eid4} -j MARK --set-mark {here.ifindex('lte0')}".split())
        marked = here.by_uplink(50)
        here.a.run(*["iptables", "-t", "mangle", "-D", "OUTPUT", "1"])
        after = here.by_uplink(50)

        assert before["wlan0"] >= 50 > 20 > before["lte0"]
        assert marked["lte0"] >= 50 > 20 > marked["wlan0"]
        assert after["wlan0"] >= 50 > 20 > after["lte0"]


def test_rules_of_the_configuration_choose_the_uplink_and_are_gone_with_the_daemon(has_bpf: bool) -> None:
    with town(RULES, has_bpf=has_bpf) as here:
        wait_for(lambda: "calls" in mangle(here), 10)
        by_rule, other = here.by_uplink(50, port=5003), here.by_uplink(50, port=6000)
        dropped = here.by_uplink(50, port=5020)
        unusable = here.by_uplink(50, mark=4000)
        lost = here.ctl("counters")["datapath"]["out_mark_drop"]
        here.configure("")
        wait_for(lambda: "calls" not in mangle(here), 10)
        without = here.by_uplink(50, port=5003)
        here.nodes["a"].daemon.stop()

        assert by_rule["lte0"] >= 50 > 20 > by_rule["wlan0"]
        assert other["wlan0"] >= 50 > 20 > other["lte0"]
        assert max(dropped.values()) < 20
        assert max(unusable.values()) < 20
        assert lost == 50
        assert without["wlan0"] >= 50 > 20 > without["lte0"]
        assert "LISPMOB" not in mangle(here)


def test_a_rule_follows_its_uplink_away_and_back(has_bpf: bool) -> None:
    with town(RULES, has_bpf=has_bpf) as here:
        wait_for(lambda: "calls" in mangle(here), 10)

        here.a.run(*["ip", "link", "set", "lte0", "down"])
        time.sleep(1.0)
        fallback = here.by_uplink(50, port=5003)
        here.a.run(*["ip", "link", "set", "lte0", "up"])
        here.a.run(*["ip", "route", "replace", "default", "via", "198.18.2.1", "dev", "lte0", "metric", "200"])
        time.sleep(2.0)
        back = here.by_uplink(200, port=5003)

        assert fallback["wlan0"] >= 50
        assert back["lte0"] >= 200 > 50 > back["wlan0"]  # registers and probes are counted as well
