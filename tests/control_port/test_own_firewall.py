"""A firewall of this host that stops our messages, and its end, which nothing reports."""

from __future__ import annotations

from ipaddress import ip_address

from lispmob.control_port.own_firewall import RESTARTS_S, OwnFirewall

SERVER, OTHER = ip_address("198.51.100.1"), ip_address("2001:db8::1")


def test_the_first_message_that_leaves_again_starts_the_node_over() -> None:
    firewall = OwnFirewall()
    for second in range(20):
        firewall.on_refused(SERVER, float(second))

    assert firewall.on_sent(SERVER, 20.0)
    assert not firewall.on_sent(SERVER, 21.0)


def test_a_message_to_another_server_says_nothing_about_the_one_that_is_refused() -> None:
    firewall = OwnFirewall()
    firewall.on_refused(SERVER, 0.0)

    assert not firewall.on_sent(OTHER, 5.0)
    assert firewall.on_sent(SERVER, 6.0)


def test_single_refusals_as_by_a_limit_of_rates_start_nothing_over() -> None:
    firewall = OwnFirewall()
    for tenth in range(100):
        firewall.on_refused(SERVER, tenth / 10)
        assert not firewall.on_sent(SERVER, tenth / 10 + 0.05)


def test_a_firewall_that_comes_and_goes_starts_the_node_over_seldom() -> None:
    firewall, starts = OwnFirewall(), 0
    for second in range(0, 60, 2):
        firewall.on_refused(SERVER, float(second))
        starts += firewall.on_sent(SERVER, second + 1.5)

    assert starts <= 60 / RESTARTS_S + 1


def test_without_a_refusal_nothing_happens() -> None:
    assert not OwnFirewall().on_sent(SERVER, 1.0)
