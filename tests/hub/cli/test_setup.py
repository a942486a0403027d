"""lisphub setup: it writes a working configuration, and names what it cannot know."""

from __future__ import annotations

import json
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path

import pytest

from lispmob.errors import ConfigError, LispError
from lispmob.hub.cli import setup
from lispmob.hub.cli.firewall import dropping_chain, remedy_of
from lispmob.hub.cli.parser import build_parser
from lispmob.hub.config import load_hub
from lispmob.hub.inviting.invite_config import InvitationsSection
from lispmob.joining import units
from lispmob.joining.checking import check_node
from lispmob.joining.exchange import Joined, Settings
from lispmob.joining.node_file import node_text

PUBLIC, PRIVATE = ip_address("198.51.100.1"), ip_address("10.0.0.4")
FLAGS = ("--no-service", "--yes", "--address", str(PUBLIC))


def set_up(path: Path, *words: str) -> int:
    return setup.run(build_parser().parse_args(["setup", "-c", str(path), *words]))


def test_it_writes_a_hub_that_starts_for_root_and_the_service_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "lispmob" / "hub.conf"

    assert set_up(path, *FLAGS, "--pool", "10.99.0.0/24", "--domain", "home.example") == 0

    hub = load_hub(path)
    assert hub.invitations == InvitationsSection(
        addresses=(PUBLIC,), pools=hub.invitations.pools, domain="home.example"
    )
    assert (list(map(str, hub.invitations.pools)), hub.rtr.enabled) == (["10.99.0.0/24"], True)
    assert path.stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "lispmob" / "sites.d").is_dir()
    out = capsys.readouterr().out
    assert "UDP 4341 and 4342, from everywhere" in " ".join(out.split())
    assert f"start it with: lisphub -c {path}" in out


def test_a_hub_that_is_there_is_not_replaced_by_mistake(tmp_path: Path) -> None:
    path = tmp_path / "hub.conf"
    path.write_text("sites: []\n")

    with pytest.raises(LispError, match="is there already"):
        set_up(path, *FLAGS)
    assert path.read_text() == "sites: []\n"

    assert set_up(path, *FLAGS, "--force") == 0
    assert (tmp_path / "hub.conf.before-setup").read_text() == "sites: []\n"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--address", "hub.example.org"), "write an IPv4 or IPv6 address, no name"),
        (("--address", "127.0.0.1"), "other machines cannot reach this one by it"),
        (("--address", str(PUBLIC), "--address", "203.0.113.7"), "one of a family is enough"),
        ((*FLAGS[2:], "--pool", "10.99.0.1/24"), "write a network such as"),
        ((*FLAGS[2:], "--pool", "10.99.0.0/32"), "has no room"),
        ((*FLAGS[2:], "--domain", 'x"\n'), "hub.conf"),
    ],
)
def test_what_makes_no_hub_is_told_and_nothing_is_written(tmp_path: Path, words: tuple[str, ...], why: str) -> None:
    with pytest.raises(LispError, match=why):
        set_up(tmp_path / "hub.conf", "--no-service", "--yes", *words)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("domain", ["local", "nas.LOCAL", "localhost", "home"])
def test_a_domain_that_resolvers_do_not_ask_for_is_written_with_a_word_of_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], domain: str
) -> None:
    assert set_up(tmp_path / "hub.conf", *FLAGS, "--domain", domain) == 0

    assert f"The domain {domain} is hardly meant" in " ".join(capsys.readouterr().out.split())
    assert load_hub(tmp_path / "hub.conf").invitations.domain == domain.lower()


def test_flags_may_hold_several_values_as_answers_on_a_terminal_do(tmp_path: Path) -> None:
    pools = ("--pool", "10.99.0.0/24,fd00:99::/64", "--pool", "10.98.0.0/24")
    addresses = ("--address", f"{PUBLIC}, 2001:db8::1")

    assert set_up(tmp_path / "hub.conf", "--no-service", "--yes", *addresses, *pools) == 0

    made = load_hub(tmp_path / "hub.conf").invitations
    assert [str(pool) for pool in made.pools] == ["10.99.0.0/24", "fd00:99::/64", "10.98.0.0/24"]
    assert [str(address) for address in made.addresses] == [str(PUBLIC), "2001:db8::1"]


@pytest.mark.parametrize("length", [189, 190, 191])
def test_a_domain_of_the_hub_is_one_that_its_nodes_take(tmp_path: Path, length: int) -> None:
    domain = ".".join(["a" * 46] * 4)[:length].ljust(length, "a")

    def is_taken(make: Callable[[], object]) -> bool:
        try:
            make()
        except LispError:
            return False
        return True

    by_hub = is_taken(lambda: set_up(tmp_path / "hub.conf", *FLAGS, "--domain", domain))
    settings = Settings(name="nas", eids=("10.99.0.1/32",), domain=domain)
    (tmp_path / "lispd.conf").write_text(node_text(Joined(settings, b"k" * 64), (PUBLIC,), "today"))
    (tmp_path / "lispd.conf").chmod(0o600)

    assert by_hub == is_taken(lambda: check_node(tmp_path / "lispd.conf")) == (length <= 190)


def test_a_machine_with_a_private_address_has_to_be_told_its_public_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup, "own_addresses", lambda: (PRIVATE,))

    with pytest.raises(LispError, match=r"no public address \(10\.0\.0\.4\)"):
        set_up(tmp_path / "hub.conf", "--no-service", "--yes")
    assert set_up(tmp_path / "hub.conf", *FLAGS) == 0
    assert load_hub(tmp_path / "hub.conf").public_address == (PUBLIC,)


def test_on_a_terminal_each_question_has_an_answer_to_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "own_addresses", lambda: (PUBLIC,))
    asked = []

    def answer(question: str, default: str) -> str:
        asked.append((question.split()[0], default))
        return "work.example" if question.startswith("Domain") else default

    arguments = build_parser().parse_args(["setup", "-c", str(tmp_path / "hub.conf"), "--no-service"])
    assert setup.run(arguments, answer) == 0

    hub = load_hub(tmp_path / "hub.conf")
    assert [word for word, _ in asked] == ["Public", "Networks", "Domain"]
    assert asked[0][1] == str(PUBLIC)
    assert (hub.invitations.addresses, hub.invitations.domain, hub.public_address) == ((PUBLIC,), "work.example", ())
    assert len(hub.invitations.pools) == 2


def test_pools_that_were_not_named_are_private_and_seldom_those_of_another_hub() -> None:
    low, high = setup.drawn_pools(lambda _: 0), setup.drawn_pools(lambda limit: limit - 1)

    assert [str(pool) for pool in low] == ["10.64.0.0/24", "fd00::/64"]
    assert all(pool.subnet_of(IPv4Network("10.0.0.0/8")) for pool in (low[0], high[0]))
    assert all(pool.subnet_of(IPv6Network("fd00::/8")) for pool in (low[1], high[1]))


def test_systemd_starts_it_and_what_systemd_says_against_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = tmp_path / "systemctl"
    said.write_text("#!/bin/sh\necho 'Unit lisphub.service not found.' >&2\nexit 5\n")
    said.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(LispError, match=r"Unit lisphub\.service not found\.; why: sudo journalctl -u lisphub"):
        units.start("lisphub.service")


@pytest.mark.parametrize(
    ("ufw", "firewalld", "policy", "first"),
    [
        ("Status: active\n", "", "accept", "ufw allow 4341/udp"),
        ("Status: inactive\n", "running\n", "drop", "firewall-cmd --permanent --add-port=4341/udp"),
        ("", "", "drop", "nft insert rule inet filter input udp dport '{ 4341, 4342 }' accept"),
        ("", "", "accept", None),
    ],
)
def test_a_firewall_that_refuses_by_default_has_a_remedy(
    ufw: str, firewalld: str, policy: str, first: str | None
) -> None:
    chain = {"family": "inet", "table": "filter", "name": "input", "hook": "input", "policy": policy}
    remedy = remedy_of(ufw, firewalld, json.dumps({"nftables": [{"metainfo": {}}, {"chain": chain}]}))

    assert (remedy(["4341", "4342"])[0] if remedy is not None else None) == first


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"nftables": 3}', "no JSON"])
def test_what_is_no_ruleset_says_nothing(text: str) -> None:
    assert dropping_chain(text) is None


def test_a_mistake_names_the_file_that_was_to_be_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as mistake:
        set_up(tmp_path / "hub.conf", *FLAGS, "--domain", "x..y")

    assert str(mistake.value).startswith(f"{tmp_path}/hub.conf:")
