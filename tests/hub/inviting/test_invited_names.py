"""Names of invited nodes: which are names of hosts, and which a site of hub.conf has first."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from lispmob.hub.inviting.invitations import InvitationRefused
from tests.hub.exchange import site
from tests.hub.inviting.inviting_hub import OFFER, Hub, node


def test_a_name_is_given_once_and_again_only_when_it_is_said() -> None:
    hub = Hub()
    hub.invitations.on_configured(OFFER, [site("10.1.0.0/16", name="nas")])
    first, invitation = hub.invite("laptop")
    hub.ask(node(invitation).question)

    for name, why in (
        ("laptop", "has joined already"),
        ("NAS", "belongs to a site"),
        ("my laptop", "no name of a host"),
    ):
        with pytest.raises(InvitationRefused, match=why):
            hub.invite(name)
    again, fresh = hub.invite("laptop", is_again=True)
    assert again.eids == first.eids
    assert hub.invitations.sites()[0].keys, "the node that has it stays until the new invitation is redeemed"
    other = node(fresh, b"o" * 32)
    assert other.on_answer(hub.ask(other.question).payload).settings.name == "laptop"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("localhost", "for something else"),
        ("WPAD", "for something else"),
        ("10", "for an address"),
        ("0x7F", "for an address"),
        ("b\u00fcro", "no name of a host"),
        ("nas.home", "no name of a host"),
        ("nas\n", "no name of a host"),
        ("-nas", "no name of a host"),
        ("nas-", "no name of a host"),
        ("", "no name of a host"),
        ("n" * 64, "no name of a host"),
        ("n" * 100_000, r"n{80}\.\.\.' is no name of a host"),
        ("\u212aelvin", "no name of a host"),
    ],
)
def test_a_name_that_programs_would_take_for_something_else_is_no_name(name: str, why: str) -> None:
    hub = Hub()

    with pytest.raises(InvitationRefused, match=why) as refused:
        hub.invite(name)

    assert len(str(refused.value)) < 250
    assert hub.invitations.sites() == ()


@pytest.mark.parametrize("name", ["n" * 63, "7up", "0xg", "xn--bro-hoa", "A-b-1"])
def test_a_label_that_dns_has_is_a_name(name: str) -> None:
    assert Hub().invite(name)[0].name == name.lower()


@pytest.mark.parametrize(
    "others", [{"name": "NAS"}, {"name": "x", "names": ("nas",)}, {"name": "x", "names": ("*.x", "nas")}]
)
def test_a_site_of_a_file_has_its_name_first_however_it_is_written(others: dict[str, Any]) -> None:
    hub = Hub()
    hub.invite("nas")
    hub.invitations.on_configured(OFFER, [replace(site("10.1.0.1/32"), **others)])

    assert hub.invitations.displaced() == ["nas"]
    hub.invitations.forget("nas")
    with pytest.raises(InvitationRefused, match="belongs to a site of hub"):
        hub.invite("Nas")
    with pytest.raises(InvitationRefused, match="is a site of hub"):
        hub.invitations.revoke("nAs")


@pytest.mark.parametrize(
    "name", ["\u212aelvin", "kelvin ", "", "k" * 100_000, "kelvin\x1b[31m", "kelvin.home.example", "nobody"]
)
def test_a_name_that_was_never_invited_shuts_no_node_out(name: str) -> None:
    hub = Hub()
    hub.invite("kelvin")

    for change in (hub.invitations.revoke, hub.invitations.renumber):
        with pytest.raises(InvitationRefused, match="no node was invited as") as refused:
            change(name)
        assert str(refused.value).isprintable()
        assert len(str(refused.value)) < 200


def test_a_site_of_a_file_is_changed_there_whatever_it_is_called() -> None:
    hub = Hub()
    hub.invitations.on_configured(OFFER, [site("10.1.0.1/32", name="Anna's laptop")])

    with pytest.raises(InvitationRefused, match="remove it there"):
        hub.invitations.revoke("anna's LAPTOP")
    with pytest.raises(InvitationRefused, match="change its EIDs there"):
        hub.invitations.renumber("Anna's laptop")


def test_a_configured_site_has_its_name_and_eids_before_an_invited_one() -> None:
    hub = Hub()
    hub.invite("laptop")
    hub.invite("phone")

    hub.invitations.on_configured(OFFER, [site("10.99.0.2/32", name="server"), site("10.1.0.1/32", name="laptop")])

    assert hub.invitations.sites() == ()
    assert hub.invitations.displaced() == ["laptop", "phone"]
