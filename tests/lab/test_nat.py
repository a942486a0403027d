"""The laboratory's NATs do what their names say, with real packets."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv4Network

import pytest

from lispmob.lab.build import Lab
from lispmob.lab.namespace import Namespace
from lispmob.lab.nat import Filtering, Mapping, Nat, NatGateway
from lispmob.lab.topology import AccessNetwork, Host, Topology, Uplink

PUBLIC, OTHER_PUBLIC = IPv4Address("203.0.113.200"), IPv4Address("203.0.113.201")
SERVER, WORLD = "198.51.100.10", "198.18.0.10"
CONE = Nat(PUBLIC, filtering=Filtering.ENDPOINT_INDEPENDENT)
RESTRICTED = Nat(PUBLIC, filtering=Filtering.ADDRESS_DEPENDENT)
USUAL = Nat(PUBLIC)
SYMMETRIC = Nat(PUBLIC, Mapping.ADDRESS_AND_PORT_DEPENDENT)

Udp = Callable[[str, int], socket.socket]


def networks() -> Topology:
    return Topology(
        networks=(
            AccessNetwork("home", IPv4Network("192.168.1.0/24")),
            AccessNetwork("cgnat", IPv4Network("100.100.0.0/24")),
            AccessNetwork("rack", IPv4Network("198.51.100.0/24")),
            AccessNetwork("web", IPv4Network("198.18.0.0/24")),
        ),
        hosts=(
            Host("a", (Uplink("eth0", "home", 10),)),
            Host("b", (Uplink("eth0", "home", 11),)),
            Host("server", (Uplink("eth0", "rack", 10),)),
            Host("world", (Uplink("eth0", "web", 10),)),
        ),
    )


@pytest.fixture
def net(build_lab: Callable[[Topology], Lab]) -> Lab:
    return build_lab(networks())


@pytest.fixture
def udp(net: Lab) -> Iterator[Udp]:
    opened: list[socket.socket] = []

    def make(host: str, port: int) -> socket.socket:
        one = net[host].socket(socket.AF_INET, socket.SOCK_DGRAM)
        one.bind(("0.0.0.0", port))
        one.settimeout(0.3)
        opened.append(one)
        return one

    yield make
    for one in opened:
        one.close()


def seen(sender: socket.socket, receiver: socket.socket, address: str) -> tuple[str, int]:
    """The sender's address and port as the receiver sees them."""
    sender.sendto(b"hello", (address, receiver.getsockname()[1]))
    return receiver.recvfrom(64)[1]  # type: ignore[no-any-return]


def gets_through(sender: socket.socket, receiver: socket.socket, address: str, port: int) -> bool:
    sender.sendto(b"in", (address, port))
    try:
        return receiver.recv(64) == b"in"
    except TimeoutError:
        return False


@pytest.mark.parametrize("spec", [CONE, RESTRICTED, USUAL, SYMMETRIC])
@pytest.mark.netns
def test_the_outside_port_depends_on_the_destination_only_where_the_mapping_says_so(
    net: Lab, udp: Udp, spec: Nat
) -> None:
    NatGateway(net, "home", spec)
    inside = udp("a", 4341)

    first, second = seen(inside, udp("server", 4342), SERVER), seen(inside, udp("world", 4342), WORLD)

    assert first[0] == second[0] == str(PUBLIC)
    assert (first == second) == (spec.mapping is Mapping.ENDPOINT_INDEPENDENT)


@pytest.mark.parametrize("spec", [CONE, RESTRICTED, USUAL, SYMMETRIC])
@pytest.mark.netns
def test_only_whom_the_filter_permits_can_send_to_a_binding(net: Lab, udp: Udp, spec: Nat) -> None:
    NatGateway(net, "home", spec)
    inside, asked = udp("a", 4341), udp("server", 4342)
    place = seen(inside, asked, SERVER)

    let_in = [
        gets_through(asked, inside, *place),
        gets_through(udp("server", 5000), inside, *place),
        gets_through(udp("world", 5000), inside, *place),
    ]

    is_open = spec.filtering is Filtering.ENDPOINT_INDEPENDENT
    assert let_in == [True, is_open or spec.filtering is Filtering.ADDRESS_DEPENDENT, is_open]


@pytest.mark.netns
def test_a_firewall_without_nat_shows_the_address_and_lets_no_packet_in_unasked(net: Lab, udp: Udp) -> None:
    NatGateway(net, "home", Nat(None))
    inside, asked = udp("a", 4341), udp("server", 4342)

    assert seen(inside, asked, SERVER) == ("192.168.1.10", 4341)
    assert gets_through(asked, inside, "192.168.1.10", 4341)
    assert not gets_through(udp("world", 5000), inside, "192.168.1.10", 4341)


@pytest.mark.netns
def test_an_idle_binding_is_gone_after_its_timeout(net: Lab, udp: Udp) -> None:
    NatGateway(net, "home", Nat(PUBLIC, new_s=1, stream_s=1))
    inside, asked = udp("a", 4341), udp("server", 4342)
    place = seen(inside, asked, SERVER)

    time.sleep(2.5)

    assert not gets_through(asked, inside, *place)


@pytest.mark.netns
def test_a_reboot_forgets_every_binding(net: Lab, udp: Udp) -> None:
    nat = NatGateway(net, "home", CONE)
    inside, asked = udp("a", 4341), udp("server", 4342)
    place = seen(inside, asked, SERVER)

    nat.reboot()

    assert not gets_through(asked, inside, *place)
    assert gets_through(asked, inside, *seen(inside, asked, SERVER))


@pytest.mark.netns
def test_another_public_address_is_what_the_outside_sees_from_then_on(net: Lab, udp: Udp) -> None:
    nat = NatGateway(net, "home", USUAL)
    inside, asked = udp("a", 4341), udp("server", 4342)
    before = seen(inside, asked, SERVER)

    nat.renumber(OTHER_PUBLIC)

    assert (before[0], seen(inside, asked, SERVER)[0]) == (str(PUBLIC), str(OTHER_PUBLIC))
    assert not gets_through(asked, inside, *before)


@pytest.mark.netns
def test_behind_two_nats_the_outside_sees_the_carriers_address_and_can_answer(net: Lab, udp: Udp) -> None:
    carrier = NatGateway(net, "cgnat", Nat(OTHER_PUBLIC, Mapping.ADDRESS_AND_PORT_DEPENDENT))
    NatGateway(net, "home", USUAL).behind(carrier)
    inside, asked = udp("a", 4341), udp("server", 4342)

    place = seen(inside, asked, SERVER)

    assert place[0] == str(OTHER_PUBLIC)
    assert gets_through(asked, inside, *place)


@pytest.mark.netns
def test_a_nat_that_hairpins_carries_a_packet_between_two_insiders(net: Lab, udp: Udp) -> None:
    NatGateway(net, "home", Nat(PUBLIC, filtering=Filtering.ENDPOINT_INDEPENDENT, hairpins=True))
    one, other = udp("a", 4341), udp("b", 4400)
    place = seen(other, udp("server", 4342), SERVER)

    assert seen_by(one, other, place)[0] == str(PUBLIC)


def seen_by(sender: socket.socket, receiver: socket.socket, place: tuple[str, int]) -> tuple[str, int]:
    sender.sendto(b"hello", place)
    return receiver.recvfrom(64)[1]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "options",
    [
        {"mapping": Mapping.ADDRESS_AND_PORT_DEPENDENT, "filtering": Filtering.ENDPOINT_INDEPENDENT},
        {"hairpins": True},
        {"new_s": 0},
    ],
)
def test_a_nat_that_linux_cannot_be_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"needs|at least"):
        Nat(PUBLIC, **options)  # type: ignore[arg-type]


@pytest.mark.netns
def test_the_rules_of_every_kind_can_be_loaded_twice(namespace: Namespace) -> None:
    for spec in (CONE, RESTRICTED, USUAL, SYMMETRIC, Nat(None)):
        for _ in range(2):
            namespace.run("sh", "-c", f"nft -f - <<'END'\n{spec.rules()}END")
