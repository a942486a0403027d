"""Where the prefix of a translator comes from: the configuration, a router, DNS, or a guess as the last resort."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network, ip_address

import pytest

from lispmob.control.server_addresses import AskName
from lispmob.control.translator_search import RENEW_S, SLOW_S, TranslatorSearch
from lispmob.wire.embedded_ipv4 import IPV4_ONLY, WELL_KNOWN, embed

NETWORK, OTHER, ROUTED = (
    IPv6Network("2001:db8:64::/96"),
    IPv6Network("2001:db8:65::/64"),
    IPv6Network("2001:db8:66::/96"),
)
LTE, WIFI = 3, 4


def search() -> TranslatorSearch:
    return TranslatorSearch(jitter=lambda: 0.0)


def synthesized(prefix: IPv6Network = NETWORK) -> list[IPv6Address]:
    return [embed(prefix, address) for address in IPV4_ONLY]


def asked(questions: list[AskName]) -> int:
    [question] = questions
    assert question.name == "ipv4only.arpa"
    return question.number


def test_dns_is_asked_as_soon_as_an_interface_has_ipv6_only() -> None:
    found = search()
    number = asked(found.on_uplinks({LTE: None}, 0.0))
    assert found.prefixes == {}

    found.on_answer(number, synthesized(), 0.1)

    assert found.prefixes == {LTE: NETWORK}


def test_without_such_an_interface_no_server_is_asked() -> None:
    found = search()

    assert found.on_uplinks({}, 0.0) == []
    assert found.wake_at() is None


@pytest.mark.parametrize(
    "answer",
    [[], [ip_address("2001:db8::1")], [ip_address("192.0.0.170")], [ip_address("64:ff9b::198.51.100.1")]],
    ids=["nothing", "a login page", "IPv4 alone", "another address"],
)
def test_without_a_prefix_in_the_answer_the_well_known_one_is_tried(answer: list[IPv6Address]) -> None:
    found = search()

    found.on_answer(asked(found.on_uplinks({LTE: None}, 0.0)), answer, 0.1)

    assert found.prefixes == {LTE: WELL_KNOWN}


def test_a_dns_server_that_is_none_is_not_waited_for() -> None:
    found = search()
    number = asked(found.on_uplinks({LTE: None}, 0.0))
    assert found.on_timer(SLOW_S) == []
    assert found.prefixes == {LTE: WELL_KNOWN}

    found.on_answer(number, synthesized(), 25.0)  # later than expected

    assert found.prefixes == {LTE: NETWORK}


def test_what_a_router_says_counts_for_its_interface_alone() -> None:
    found = search()

    found.on_answer(asked(found.on_uplinks({LTE: None, WIFI: ROUTED}, 0.0)), synthesized(), 0.1)

    assert found.prefixes == {LTE: NETWORK, WIFI: ROUTED}


def test_where_all_routers_say_it_no_server_is_asked() -> None:
    found = search()

    assert found.on_uplinks({WIFI: ROUTED}, 0.0) == []
    assert found.prefixes == {WIFI: ROUTED}


def test_a_router_that_says_it_later_is_heeded_and_one_that_ends_it_is_too() -> None:
    found = search()
    found.on_answer(asked(found.on_uplinks({WIFI: None}, 0.0)), synthesized(), 0.1)

    assert found.on_uplinks({WIFI: ROUTED}, 10.0) == []
    assert found.prefixes == {WIFI: ROUTED}
    number = asked(found.on_uplinks({WIFI: None}, 20.0))
    found.on_answer(number, synthesized(), 20.1)
    assert found.prefixes == {WIFI: NETWORK}


def test_another_interface_has_dns_asked_again_and_the_old_answer_holds_meanwhile() -> None:
    found = search()
    first = asked(found.on_uplinks({LTE: None}, 0.0))
    found.on_answer(first, synthesized(), 0.1)

    second = asked(found.on_uplinks({WIFI: None}, 60.0))
    assert found.prefixes == {WIFI: NETWORK}
    found.on_answer(first, synthesized(ROUTED), 60.1)  # too late: the node is in another network
    assert found.prefixes == {WIFI: NETWORK}
    found.on_answer(second, synthesized(OTHER), 60.2)

    assert found.prefixes == {WIFI: OTHER}


def test_the_same_interface_is_no_reason_to_ask_again() -> None:
    found = search()
    found.on_answer(asked(found.on_uplinks({LTE: None}, 0.0)), synthesized(), 0.1)

    assert found.on_uplinks({LTE: None}, 5.0) == []


def test_a_prefix_that_was_found_is_asked_about_seldom_and_a_guess_more_often() -> None:
    found, guessed = search(), search()
    found.on_answer(asked(found.on_uplinks({LTE: None}, 0.0)), synthesized(), 0.0)
    guessed.on_answer(asked(guessed.on_uplinks({LTE: None}, 0.0)), [], 0.0)

    assert found.wake_at() == RENEW_S
    assert guessed.wake_at() is not None
    assert guessed.wake_at() < 10.0  # type: ignore[operator]
    times = []
    while (at := guessed.wake_at()) is not None and at < 3600.0:
        times.append(at)
        for question in guessed.on_timer(at):
            guessed.on_answer(question.number, [], at)
    assert len(times) < 15
    assert times[-1] - times[-2] == RENEW_S


@pytest.mark.parametrize("needy", [{LTE: None}, {LTE: ROUTED}])
def test_the_configuration_has_the_last_word(needy: dict[int, IPv6Network | None]) -> None:
    found = search()
    found.on_config(OTHER, 0.0)

    assert found.on_uplinks(needy, 0.0) == []
    assert found.prefixes == {LTE: OTHER}
    assert found.on_config(None, 1.0, is_off=True) == []
    assert found.prefixes == {}
    assert found.wake_at() is None


def test_a_reload_that_names_no_prefix_any_more_has_dns_asked() -> None:
    found = search()
    found.on_config(OTHER, 0.0)
    found.on_uplinks({LTE: None}, 0.0)

    number = asked(found.on_config(None, 1.0))
    found.on_answer(number, synthesized(), 1.1)

    assert found.prefixes == {LTE: NETWORK}


def test_without_an_interface_that_needs_it_asking_ends() -> None:
    found = search()
    number = asked(found.on_uplinks({LTE: None}, 0.0))
    found.on_uplinks({}, 1.0)
    found.on_answer(number, synthesized(), 2.0)

    assert (found.prefixes, found.wake_at()) == ({}, None)
