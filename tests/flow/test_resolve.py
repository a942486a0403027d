"""How a name is resolved: which source is asked when, and which answers count. Without a network."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from ipaddress import ip_address, ip_network

import pytest

from lispmob.flow.auth import IpAddress
from lispmob.flow.resolve import NotResolved, Resolved, Resolver, mapping_names
from lispmob.lispd.flows.name_asking import NameAsking
from lispmob.protocol.effect import NameResolved
from tests.flow.world import A, Address, B

OVERLAY = ip_network("10.99.0.0/16")
OUTSIDE = ip_address("192.0.2.1")
NOBODY = (), "no site has registered it"


async def no_service(_name: str) -> tuple[str, int] | None:
    return None


def resolve(name: str, known: dict[str, tuple[tuple[Address, ...], str]], *held: str, domain: str = "") -> Resolved:
    async def find(asked: str) -> tuple[tuple[Address, ...], str]:
        return known.get(asked, NOBODY)

    return asyncio.run(resolver(find, *held, domain=domain).resolve(name))


def resolver(
    find: Callable[[str], Awaitable[tuple[tuple[IpAddress, ...], str]]],
    *held: str,
    domain: str = "",
    patience_s: float = 5.0,
) -> Resolver:
    return Resolver(
        is_eid=lambda address: address in OVERLAY,
        is_held=held.__contains__,
        own=lambda: (A,),
        domain=domain,
        find_name=find,
        patience_s=patience_s,
        find_service=no_service,
    )


def steps(resolved: Resolved) -> list[tuple[str, str]]:
    return [(step.source, step.outcome) for step in resolved.steps]


def test_the_mapping_system_comes_after_this_host_and_before_dns() -> None:
    found = resolve("backup.nas", {"nas": ((B,), "registered")})

    assert found.eids == (B,)
    assert found.name == "backup.nas"
    assert steps(found) == [
        ("this host", "does not hold it"),
        ("mapping system, backup.nas", "no site has registered it"),
        ("mapping system, nas", str(B)),
    ]


def test_a_name_of_its_own_comes_before_that_of_its_host() -> None:
    known: dict[str, tuple[tuple[Address, ...], str]] = {
        "backup.nas": ((A,), "registered"),
        "nas": ((B,), "registered"),
    }

    assert resolve("Backup.NAS", known).eids == (A,)


def test_what_this_host_holds_or_the_name_says_itself_is_not_asked_for() -> None:
    async def never(_asked: str) -> tuple[tuple[Address, ...], str]:
        raise AssertionError("asked")

    assert asyncio.run(resolver(never, "notes").resolve("notes")).eids == (A,)
    assert asyncio.run(resolver(never).resolve(f"notes@{B}")).eids == (B,)


def test_an_answer_outside_the_overlay_is_none() -> None:
    with pytest.raises(NotResolved) as failed:
        resolve("nas.invalid", {"nas.invalid": ((OUTSIDE,), "registered")})

    assert ("mapping system, nas.invalid", "not in the overlay") in [
        (step.source, step.outcome) for step in failed.value.steps
    ]


def test_a_mapping_system_that_never_answers_ends_in_dns() -> None:
    async def never(_asked: str) -> tuple[tuple[Address, ...], str]:
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    with pytest.raises(NotResolved) as failed:
        asyncio.run(resolver(never, patience_s=0.01).resolve("nas.invalid"))

    assert [step.source for step in failed.value.steps][1:4] == [
        "mapping system, nas.invalid", "mapping system, invalid", "dns SRV",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "domain", "asked"),
    [
        ("backup.nas", "", ("backup.nas", "nas")),
        ("Backup.NAS.lisp.home.arpa", "Lisp.home.arpa", ("backup.nas", "nas")),
        ("backup", "", ("backup",)),
        ("a.b.c", "", ("a.b.c", "b.c")),
        ("backup.", "", ("backup.",)),
    ],
)
def test_the_mapping_system_is_asked_for_the_name_and_its_host(name: str, domain: str, asked: tuple[str, ...]) -> None:
    assert mapping_names(name, domain) == asked


def test_who_waits_for_the_same_name_hears_the_same_answer_and_who_has_gone_nothing() -> None:
    async def talk() -> tuple[list[bytes], list[object]]:
        asked: list[bytes] = []
        names = NameAsking(asked.append)
        waiting = [asyncio.create_task(names.find(name)) for name in ("nas", "NAS", "other")]
        gone = asyncio.create_task(names.find("nas"))
        await asyncio.sleep(0)
        gone.cancel()
        names.on_resolved(NameResolved(b"nas", (B,), "registered"))
        names.on_resolved(NameResolved(b"nas", (), "too late"))
        names.on_resolved(NameResolved(b"other", (), "nobody"))
        return asked, await asyncio.gather(*waiting)

    asked, answers = asyncio.run(talk())

    assert asked == [b"nas", b"nas", b"other", b"nas"]
    assert answers == [((B,), "registered"), ((B,), "registered"), ((), "nobody")]


def test_an_answer_that_is_there_already_needs_no_waiting() -> None:
    async def talk() -> tuple[tuple[IpAddress, ...], str]:
        names = NameAsking(lambda name: names.on_resolved(NameResolved(name, (B,), "registered")))
        return await names.find("nas")

    assert asyncio.run(talk()) == ((B,), "registered")
