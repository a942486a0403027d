"""The domain in lispd: what is loaded, kept and reported, and its problems."""

from __future__ import annotations

import asyncio
import builtins
import json
from ipaddress import ip_address
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec.structs import replace

from lispmob.config.doubts import doubts
from lispmob.config.names import NamesSection
from lispmob.config.node import NodeFile, load_node
from lispmob.control.names import KnownName
from lispmob.errors import ConfigError
from lispmob.lispd.flows.name_asking import NameAsking
from lispmob.lispd.tasks.naming import LOOPBACK, Naming, load_names, save_names
from lispmob.names.zone import served_prefixes
from lispmob.node.node import Node

NAS = KnownName((ip_address("10.1.0.2"), ip_address("2001:db8:e::2")), "registered", 9.0)
REVERSE = KnownName((), "registered", 9.0, (b"nas",))
NOBODY = KnownName((), "no site has registered it", 9.0)


def configured(
    directory: Path, text: str = "names: {domain: lisp.home.arpa, port: 25399}\n", eid: str = "10.9.9.1"
) -> NodeFile:
    path = directory / "lispd.conf"
    path.write_text(f"eids: [{eid}]\ntun: {{name: lo}}\nmap-cache: {{program: yes}}\nstate-dir: {directory}\n{text}")
    return load_node(path)


class Names:
    """The names that the core remembers."""

    def __init__(self) -> None:
        self.known = {b"nas": NAS}
        self.restored: dict[bytes, KnownName] = {}

    def restore(self, known: dict[bytes, KnownName]) -> None:
        self.restored = known


def naming() -> tuple[Naming, Names]:
    names = Names()
    return Naming(cast(Node, SimpleNamespace(names=names)), NameAsking(lambda _: None)), names


def test_what_was_found_is_kept_and_comes_back_as_to_be_asked_for_again(tmp_path: Path) -> None:
    path = tmp_path / "names.json"

    save_names(path, {b"nas": NAS, b"2.0.1.10.in-addr.arpa": REVERSE, b"printer": NOBODY})

    found = load_names(path, 100.0)
    assert {name: (one.eids, one.names, one.until) for name, one in found.items()} == {
        b"nas": (NAS.eids, (), 100.0),
        b"2.0.1.10.in-addr.arpa": ((), (b"nas",), 100.0),
    }


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{",
        "[" * 100_000,
        '{"nas": 5}',
        '{"nas": {"eids": ["x"], "names": []}}',
        '{"nas": {"eids": [], "names": [7]}}',
        '{"n\\u00e4s": {"eids": ["10.1.0.2"], "names": []}}',
        '{"a\\tb": {"eids": ["10.1.0.2"], "names": []}}',
        '{"nas": {"eids": [], "names": []}}',
        " " * ((1 << 20) + 1),
    ],
)
def test_a_damaged_file_of_names_is_as_none(tmp_path: Path, content: str) -> None:
    path = tmp_path / "names.json"
    path.write_text(content)

    assert load_names(path, 0.0) == {}
    assert load_names(tmp_path / "nothing", 0.0) == {}


def test_a_directory_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    save_names(tmp_path / "absent" / "names.json", {b"nas": NAS})


def test_the_server_serves_while_a_domain_is_configured_and_tells_resolved(tmp_path: Path) -> None:
    async def scenario() -> None:
        file = configured(tmp_path)
        one, names = naming()
        (tmp_path / "names.json").write_text(json.dumps({"nas": {"eids": ["10.1.0.2"], "names": []}}))
        await one.start(file)
        assert (one.addresses, one.refusal) == ((ip_address("10.9.9.1"), LOOPBACK), None)
        assert list(names.restored) == [b"nas"]
        told = one.resolved._wanted
        assert told is not None
        assert (str(told.server), told.port, told.domain) == ("10.9.9.1", 25399, "lisp.home.arpa")
        assert told.reverse == ("1.9.9.10.in-addr.arpa",)

        await one.on_config(replace(file, names=NamesSection()))
        assert not one.addresses
        assert one.resolved._wanted is None
        await one.on_config(file)
        assert len(one.addresses) == 2
        one.on_resolved()
        await one.stop()
        assert not one.addresses

    asyncio.run(scenario())
    assert json.loads((tmp_path / "names.json").read_text()) == {
        "nas": {"eids": ["10.1.0.2", "2001:db8:e::2"], "names": []}
    }


def test_without_a_domain_nothing_is_loaded_and_no_socket_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builtins, "__import__", without("lispmob.names.server"))

    async def scenario() -> None:
        one, _ = naming()
        await one.start(configured(tmp_path, ""))
        one.on_resolved()
        assert (one.addresses, one.refusal) == ((), None)
        await one.stop()

    asyncio.run(scenario())
    assert not (tmp_path / "names.json").exists()


def without(module: str) -> Any:
    real = builtins.__import__

    def refuse(name: str, *rest: Any) -> Any:
        if name == module:
            raise ImportError("No module named 'dns'")
        return real(name, *rest)

    return refuse


def test_without_dnspython_the_node_goes_on_and_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = configured(tmp_path)
    monkeypatch.setattr(builtins, "__import__", without("lispmob.names.server"))

    async def scenario() -> str | None:
        one, _ = naming()
        await one.start(file)
        return one.refusal

    assert "install dnspython" in str(asyncio.run(scenario()))


@pytest.mark.parametrize(
    ("text", "eid", "why"),
    [
        ("names: {domain: lisp.home.arpa}\n", "10.9.9.0/24", "no EID of this node is a whole address"),
        ("names: {domain: lisp.home.arpa, port: 25399}\n", "10.9.9.1/32", "Address already in use"),
    ],
)
def test_what_keeps_the_server_from_serving_is_said_and_the_node_goes_on(
    tmp_path: Path, text: str, eid: str, why: str
) -> None:
    async def scenario() -> str | None:
        other, _ = naming()
        await other.start(configured(tmp_path))
        one, _ = naming()
        await one.start(configured(tmp_path, text, eid))
        assert not one.addresses
        assert [problem.key for problem in one.problems] == ["no-names"]
        await other.stop()
        return one.refusal

    assert why in str(asyncio.run(scenario()))


def test_reverse_names_are_those_of_the_overlay_and_of_our_own_eids(tmp_path: Path) -> None:
    file = configured(tmp_path, "routing: {overlay-prefixes: [10.1.0.0/16]}\n", eid="192.0.2.7/32")

    inside = configured(tmp_path, "routing: {overlay-prefixes: [10.9.0.0/16]}\n")

    assert [str(one) for one in served_prefixes(file.routing.overlay_prefixes, file.eids)] == [
        "10.1.0.0/16",
        "192.0.2.7/32",
    ]
    assert [str(one) for one in served_prefixes(inside.routing.overlay_prefixes, inside.eids)] == ["10.9.0.0/16"]


@pytest.mark.parametrize("domain", ["-a.b", "a..b", "a b", "n\u00e4s.arpa", "x" * 64, "a." * 100 + "b"])
def test_a_domain_that_is_none_is_an_error_with_its_place(tmp_path: Path, domain: str) -> None:
    with pytest.raises(ConfigError, match=r"lispd\.conf:5:17: names\.domain"):
        configured(tmp_path, f"names: {{domain: {domain}}}\n")


def test_a_resolved_that_refuses_is_a_problem_with_its_remedy(tmp_path: Path) -> None:
    async def scenario() -> None:
        one, _ = naming()
        await one.start(configured(tmp_path))
        assert not list(one.problems)
        one.resolved.refusal = "Access denied\x1b"
        problem = one.problems[0]
        assert (problem.key, problem.cause) == ("no-resolver", "Access denied\\x1b")
        await one.stop()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        ("nas.local", ["odd-domain"]),
        ("x.localhost", ["odd-domain"]),
        ("onion", ["odd-domain"]),
        ("lisp", ["odd-domain"]),
        ("lisp.home.arpa", []),
        ("localhost.example", []),
        ('""', []),
    ],
)
def test_a_domain_that_others_own_is_doubted(tmp_path: Path, domain: str, expected: list[str]) -> None:
    file = configured(tmp_path, f"names: {{domain: {domain}}}\nrouting: {{overlay-prefixes: [10.9.0.0/16]}}\n")

    assert [problem.key for problem in doubts(file) if problem.key == "odd-domain"] == expected
