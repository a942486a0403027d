"""EIDs of the hub's own machine: answered like a node's, kept for ever, and refused to others."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest

from lispmob.errors import ConfigError
from lispmob.hub.config import HubFile, load_hub
from lispmob.hub.dispatch import ControlPlane
from lispmob.protocol.effect import Event
from tests.hub.exchange import ask, eid, reply_in, rlocs_of, site, xtr

OWN, OWN6 = "10.1.0.254/32", "2001:db8:1::254/128"
SITES = "sites:\n- {name: a, eids: [10.1.0.0/24], key: k}\n"


def load(tmp_path: Path, more: str) -> HubFile:
    path = tmp_path / "hub.conf"
    path.write_text(SITES + more)
    path.chmod(0o600)
    return load_hub(path)


def hub(tmp_path: Path, *addresses: str) -> ControlPlane:
    file = load(tmp_path, f"own-eids: ['{OWN}', '{OWN6}']\nrtr: {{enabled: yes}}")
    plane = ControlPlane(file.to_sites(), traversal=file.to_traversal())
    plane.on_addresses([ip_address(address) for address in addresses])
    plane.on_own_eids(file.own_eids, 0.0)
    return plane


@pytest.mark.parametrize("what", [OWN, OWN6])
def test_who_asks_is_told_the_addresses_of_this_machine_for_ever(tmp_path: Path, what: str) -> None:
    plane = hub(tmp_path, "198.51.100.1", "2001:db8:ffff::1")

    plane.on_timer(1e6)

    record = reply_in(plane.on_datagram(ask(what), 1e6)).records[0]
    assert record.eid_prefix == eid(what)
    assert rlocs_of(record) == ["198.51.100.1", "2001:db8:ffff::1"]


def test_another_address_of_this_machine_is_told_of_at_once(tmp_path: Path) -> None:
    plane = hub(tmp_path, "198.51.100.1")

    plane.on_addresses([ip_address("198.51.100.9")])
    plane.on_own_eids([eid(OWN)], 1.0)

    assert rlocs_of(reply_in(plane.on_datagram(ask(OWN), 2.0)).records[0]) == ["198.51.100.9"]


def test_no_node_registers_them_whatever_site_is_around_them(tmp_path: Path) -> None:
    plane = hub(tmp_path, "198.51.100.1")

    effects = plane.on_datagram(xtr("203.0.113.5").register(OWN), 1.0)

    assert [effect.kind for effect in effects if isinstance(effect, Event)] == ["auth-failed"]
    assert rlocs_of(reply_in(plane.on_datagram(ask(OWN), 2.0)).records[0]) == ["198.51.100.1"]


def test_a_reload_that_still_has_them_changes_nothing(tmp_path: Path) -> None:
    plane = hub(tmp_path, "198.51.100.1")

    plane.on_sites(
        [site("10.1.0.0/24"), load(tmp_path, f"own-eids: ['{OWN}']\nrtr: {{enabled: yes}}").to_sites()[-1]], (), now=1.0
    )

    assert rlocs_of(reply_in(plane.on_datagram(ask(OWN), 2.0)).records[0]) == ["198.51.100.1"]


def test_they_are_not_routed_into_the_proxys_device_for_they_are_on_it(tmp_path: Path) -> None:
    file = load(tmp_path, f"own-eids: ['{OWN}']\nrtr: {{enabled: yes}}")

    assert file.proxied_eids == (eid("10.1.0.0/24"),)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("own-eids: [10.1.0.0/28]\nrtr: {enabled: yes}", "one address"),
        ("own-eids: ['[7]10.1.0.254/32']\nrtr: {enabled: yes}", "Instance-ID 0"),
        ("own-eids: [10.1.0.254/32]", "rtr: {enabled: yes}"),
        ("own-eids: [10.1.0.254/32]\nrtr: {enabled: yes}\nnat-dialects: [x]", "nat-dialects"),
        ("public-address: [10.0.0.4]", "private address itself"),
        ("public-address: [198.51.100.1, 198.51.100.2]", "one address of each family"),
    ],
)
def test_what_cannot_work_is_refused_with_its_place(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=r"hub\.conf:\d+:\d+: ") as caught:
        load(tmp_path, text)

    assert complaint in str(caught.value)


def test_an_own_eid_that_is_a_sites_too_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="belongs to site own-eids already"):
        load(tmp_path, "- {name: b, eids: [10.1.0.254/32], key: k}\nown-eids: [10.1.0.254/32]\nrtr: {enabled: yes}")
