"""Which uplinks need a translator, and what lispd learns of it."""

from __future__ import annotations

from ipaddress import IPv6Network
from pathlib import Path
from typing import Any

import pytest

from lispmob.config.node import NodeFile, load_node
from lispmob.errors import ConfigError
from lispmob.iface_monitor.snapshot import NetworkState, Translator, Uplink
from lispmob.lispd.assembly import local_locators
from lispmob.lispd.translators import needy
from tests.internet.network import ip

PREFIX, OTHER = IPv6Network("2001:db8:64::/96"), IPv6Network("2001:db8:65::/96")
TEXT = """
eids: [10.1.0.1/32]
map-servers: [{{address: "{server}", key: "a long enough key"}}]
state-dir: {state}
natt: {{nat64: "{nat64}"}}
"""


def configured(tmp_path: Path, server: str = "198.51.100.1", nat64: str = "auto") -> NodeFile:
    path = tmp_path / "lispd.conf"
    path.write_text(TEXT.format(server=server, state=tmp_path, nat64=nat64), encoding="utf-8")
    path.chmod(0o600)
    return load_node(path)


def uplink(ifindex: int, *addresses: str) -> Uplink:
    return Uplink(f"eth{ifindex}", ifindex, tuple(map(ip, addresses)), 100, 1500, 1, 100)


def test_uplinks_with_ipv6_only_need_one_where_the_map_server_has_ipv4(tmp_path: Path) -> None:
    network = NetworkState(translators=(Translator(3, PREFIX), Translator(3, OTHER), Translator(9, OTHER)))
    uplinks = [uplink(2, "2001:db8::2"), uplink(3, "2001:db8::3"), uplink(4, "192.0.2.4", "2001:db8::4")]

    assert needy(configured(tmp_path), network, uplinks) == {2: None, 3: PREFIX}


def test_no_uplink_needs_one_where_all_map_servers_have_ipv6(tmp_path: Path) -> None:
    assert needy(configured(tmp_path, "2001:db8::53"), NetworkState(), [uplink(2, "2001:db8::2")]) == {}


def test_the_prefix_stands_in_every_locator_of_its_interface(tmp_path: Path) -> None:
    uplinks = [uplink(2, "2001:db8::2", "2001:db8::22"), uplink(4, "192.0.2.4")]

    found = local_locators(uplinks, configured(tmp_path), translators={2: PREFIX})

    assert [(locator.ifindex, locator.nat64) for locator in found] == [(2, PREFIX), (2, PREFIX), (4, None)]


@pytest.mark.parametrize(
    ("written", "value"), [("auto", "auto"), ("off", "off"), ("64:ff9b::/96", IPv6Network("64:ff9b::/96"))]
)
def test_the_configuration_names_a_prefix_or_says_how_to_find_it(tmp_path: Path, written: str, value: Any) -> None:
    assert configured(tmp_path, nat64=written).natt.nat64 == value


@pytest.mark.parametrize("written", ["64:ff9b::/95", "64:ff9b::1/96", "10.0.0.0/8", "yes", "2001:db8:0:0:ff00::/96"])
def test_anything_else_is_refused_with_what_is_accepted(tmp_path: Path, written: str) -> None:
    with pytest.raises(ConfigError, match=r"natt\.nat64.*auto, off or a translator's prefix"):
        configured(tmp_path, nat64=written)
