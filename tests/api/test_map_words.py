"""The words of `lispctl map`: ours, and those of OpenLISP's map(8)."""

from __future__ import annotations

from pathlib import Path

import pytest

from lispmob.lispctl import names
from lispmob.lispctl.map_words import WrongWords, read_words
from lispmob.lispctl.names import Names, name_of_network, network_of


def rlocs(text: str) -> list[tuple[str, int, int, bool]]:
    made = read_words("add", text.split())
    return [
        (locator["address"], locator["priority"], locator["weight"], locator.get("is_reachable", True))
        for locator in made.locators
    ]


def test_the_example_of_the_manual_means_what_it_says() -> None:
    words = "-local -inet 1.1.0.0/16 -inet 2.2.2.2 1 100 1 -inet6 2001::1 2 100 1"

    made = read_words("add", words.split())

    assert (made.eid, made.table) == ("1.1.0.0/16", "database")
    assert rlocs(words) == [("2.2.2.2", 1, 100, True), ("2001::1", 2, 100, True)]


def test_numbers_that_are_left_out_are_those_of_the_manual() -> None:
    words = "-inet 1.1.0.0/16 -inet 2.2.2.2 1 100 1 -inet 3.3.3.3 2 100 -inet 4.4.4.4 3 -inet 5.5.5.5"

    assert rlocs(words) == [
        ("2.2.2.2", 1, 100, True),
        ("3.3.3.3", 2, 100, False),
        ("4.4.4.4", 3, 100, False),
        ("5.5.5.5", 255, 100, False),
    ]


def test_fewer_words_mean_an_rloc_that_is_used() -> None:
    assert rlocs("10.2.0.0/16 192.0.2.9 192.0.2.10,2 2001:db8::1,3,50") == [
        ("192.0.2.9", 1, 100, True),
        ("192.0.2.10", 2, 100, True),
        ("2001:db8::1", 3, 50, True),
    ]


@pytest.mark.parametrize(
    ("words", "eid"),
    [
        ("-inet 128.32", "128.0.0.32/32"),
        ("-inet 128.32.130", "128.32.0.130/32"),
        ("-inet 192.168.64/20", "192.168.64.0/20"),
        ("-inet 1.1.1.1/16", "1.1.0.0/16"),
        ("-inet6 2001:db8::7/32", "2001:db8::/32"),
        ("[7]10.2.0.0/16", "[7]10.2.0.0/16"),
        ("2001:db8::7", "2001:db8::7/128"),
        ("-inet localhost", "127.0.0.1/32"),
    ],
)
def test_an_eid_is_read_as_bsd_reads_it(words: str, eid: str) -> None:
    assert read_words("get", words.split()).eid == eid


@pytest.mark.parametrize(
    ("action", "words", "complaint"),
    [
        ("add", "-inet 1.1.0.0/16", "an RLOC is missing"),
        ("add", "", "an EID is missing"),
        ("add", "-inet", "wants an address"),
        ("add", "-inet 1.1.0.0/33 -inet 2.2.2.2", "no EID-Prefix"),
        ("add", "-inet 1.1.0.0/16 -inet 2.2.2.2 256", "priority is 0 to 255, not 256"),
        ("add", "-inet 1.1.0.0/16 -inet 2.2.2.2 1 300", "weight is 0 to 255, not 300"),
        ("add", "-inet 1.1.0.0/16 -inet 2.2.2.2 1 100 2", "0 or 1, not 2"),
        ("add", "-inet 1.1.0.0/16 -inet 2.2.2.2 1 100 1 1", "three numbers behind"),
        ("add", "-inet6 1.1.0.0/16 -inet 2.2.2.2", "no IPv6 prefix"),
        ("add", "-inet 1.1.0.0/16 -inet6 2.2.2.2", "no IPv6 address"),
        ("add", "1.1.0.0/16 2.2.2.2,x", "is not ADDRESS"),
        ("add", "-negative 1.1.0.0/16 2.2.2.2", "has no RLOCs"),
        ("add", "-negative -local 1.1.0.0/16", "cannot be negative"),
        ("add", "-version 3 1.1.0.0/16", "-version"),
        ("add", "-frob 1.1.0.0/16", "no such word"),
        ("get", "1.1.1.1 2.2.2.2", "no place here"),
        ("flush", "1.1.1.1", "map delete 1.1.1.1"),
        ("monitor", "-all", "no such word"),
        ("get", "a..b", "no host has that name"),
    ],
)
def test_what_cannot_be_meant_is_a_sentence(action: str, words: str, complaint: str) -> None:
    with pytest.raises(WrongWords, match=complaint):
        read_words(action, words.split())


def test_networks_have_names_both_ways(tmp_path: Path) -> None:
    path = tmp_path / "networks"
    path.write_text("# comment\nloopback 127.0.0.0\noffice 10.2.0.0 work # ours\nbad 999.1\n")

    assert str(network_of("work", str(path))) == "10.2.0.0/16"
    network = network_of("office", str(path))
    assert network is not None
    assert name_of_network(network, str(path)) == "office"
    assert network_of("bad", str(path)) is None
    assert network_of("office", str(tmp_path / "none")) is None


def test_a_resolver_that_does_not_answer_is_waited_for_once() -> None:
    asked: list[str] = []

    def look(address: str) -> str | None:
        asked.append(address)
        return "host.example" if address == "192.0.2.1" else None

    name = Names(look)
    tired = Names(look, patience_s=0.0)

    assert [name("192.0.2.1"), name("192.0.2.1"), name("192.0.2.2"), tired("192.0.2.1")] == [
        "host.example",
        "host.example",
        "192.0.2.2",
        "192.0.2.1",
    ]
    assert asked == ["192.0.2.1", "192.0.2.2"]
    assert names.PATIENCE_S <= 1.0
