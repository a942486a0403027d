"""Servers by host name: what counts as one, and the configuration once their addresses are known."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest

from lispmob.config.node import NodeFile
from lispmob.config.reader import read_bytes
from lispmob.config.server_names import names_of, with_addresses
from lispmob.errors import ConfigError
from lispmob.wire.address import IpAddress

HUB4, HUB6, OTHER = map(ip_address, ("198.51.100.1", "2001:db8:51::1", "198.51.100.7"))
EIDS = "eids: [192.0.2.7/32]\n"


def read(text: str) -> NodeFile:
    return read_bytes((EIDS + text).encode(), "lispd.conf", NodeFile, directory=Path())


def known(file: NodeFile, **answers: tuple[IpAddress, ...]) -> NodeFile:
    return with_addresses(file, file, {name.replace("_", "."): found for name, found in answers.items()})


BY_NAME = "map-servers: [{address: hub.example.net, key: a}]\n"


def test_a_name_without_an_address_is_no_server_yet_and_is_not_lost() -> None:
    file = known(read(BY_NAME))

    assert names_of(file) == {"hub.example.net": "Map-Server"}
    assert (file.map_servers, file.resolvers) == ((), ())


def test_a_name_with_two_addresses_is_a_map_server_and_a_map_resolver_at_each() -> None:
    file = known(read(BY_NAME), hub_example_net=(HUB6, HUB4))

    assert [map_server.address for map_server in file.map_servers] == [HUB6, HUB4]
    assert [map_server.secret.octets for map_server in file.map_servers] == [b"a", b"a"]
    assert file.resolvers == (HUB6, HUB4)


def test_a_server_that_is_named_and_listed_by_its_address_is_one_as_it_stands_first() -> None:
    text = "map-servers:\n- {address: 198.51.100.1, key: a}\n- {address: hub.example.net, key: b}\n"

    file = known(read(text), hub_example_net=(HUB4, HUB6))

    assert [(map_server.address, map_server.secret.octets) for map_server in file.map_servers] == [
        (HUB4, b"a"),
        (HUB6, b"b"),
    ]


def test_the_next_answer_starts_from_what_is_written_and_not_from_the_last_answer() -> None:
    written = read(BY_NAME)
    first = with_addresses(written, written, {"hub.example.net": (HUB4,)})

    second = with_addresses(first, written, {"hub.example.net": (OTHER,)})

    assert [map_server.address for map_server in second.map_servers] == [OTHER]


def test_resolvers_by_name_that_are_not_found_are_not_replaced_by_the_map_servers() -> None:
    file = known(read(BY_NAME + "map-resolvers: [mr.example.net]\n"), hub_example_net=(HUB4,))

    assert names_of(file) == {"mr.example.net": "Map-Resolver"}
    assert file.resolvers == ()


def test_proxies_and_rtrs_have_names_too_and_are_never_this_machine() -> None:
    text = BY_NAME + "proxy-etrs: [pxtr.example.net]\nproxy-itrs: [pxtr.example.net]\nnatt: {rtrs: [rtr.example.net]}\n"
    local = ip_address("127.0.1.1")

    file = known(read(text), hub_example_net=(local,), pxtr_example_net=(local, OTHER), rtr_example_net=(local, HUB6))

    assert [map_server.address for map_server in file.map_servers] == [local]
    assert [(proxy_etr.address, proxy_etr.priority, proxy_etr.weight) for proxy_etr in file.proxy_etrs] == [
        (OTHER, 1, 100)
    ]
    assert (file.proxy_itrs, file.natt.rtrs) == ((OTHER,), (HUB6,))


def test_an_answer_inside_our_own_eid_prefix_is_left_out() -> None:
    file = known(read(BY_NAME), hub_example_net=(ip_address("192.0.2.7"), HUB4))

    assert [map_server.address for map_server in file.map_servers] == [HUB4]


def test_the_same_name_twice_is_refused_whatever_the_case_and_the_dot_at_its_end() -> None:
    text = "map-servers:\n- {address: hub.example.net, key: a}\n- {address: HUB.example.net., key: b}\n"

    with pytest.raises(ConfigError, match=r"hub\.example\.net is listed twice"):
        read(text)


@pytest.mark.parametrize(
    "name", ["192.0.2.l", "198.51.100.1x", "hub_1.example", "-hub.example", "a..example", "x" * 64]
)
def test_what_is_an_address_but_for_a_slip_or_no_host_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"map-servers\[0\].address"):
        read(BY_NAME.replace("hub.example.net", name))


def test_a_map_resolver_by_name_needs_no_key_where_it_is_a_map_server_too() -> None:
    file = read(BY_NAME + "map-resolvers: [hub.example.net]\nsecurity: {lisp-sec: prefer}\n")

    assert known(file, hub_example_net=(HUB4, HUB6)).resolvers == (HUB4, HUB6)
