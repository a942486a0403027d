"""A host with Docker, with rules as dockerd writes them: a container with a published port, which also calls a peer."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from lispmob.lab.real.world import A, B, World

pytestmark = pytest.mark.netns

DOCKERD = """\
*filter
:FORWARD DROP [0:0]
:DOCKER - [0:0]
:DOCKER-ISOLATION-STAGE-1 - [0:0]
:DOCKER-ISOLATION-STAGE-2 - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-ISOLATION-STAGE-1
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o docker0 -j DOCKER
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A FORWARD -i docker0 -o docker0 -j ACCEPT
-A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT
-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-1 -j RETURN
-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
-A DOCKER-ISOLATION-STAGE-2 -j RETURN
-A DOCKER-USER -j RETURN
COMMIT
*nat
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A DOCKER -i docker0 -j RETURN
-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80
COMMIT
"""


def docker(world: World) -> None:
    world["a"].sysctl("ipv4/ip_forward", "1")
    world["a"].sysctl("ipv4/conf/all/rp_filter", "1")
    world.add("guest")
    world.ip("a", "link add docker0 type bridge forward_delay 0", "link set docker0 up")
    world.cable(("guest", "eth0"), ("a", "veth1"), near_addresses=["172.17.0.2/16"])
    world.ip("a", "link set veth1 master docker0", "addr add 172.17.0.1/16 dev docker0")
    world.ip("guest", "route add default via 172.17.0.1")
    rules = world.directory / "dockerd"
    rules.write_text(DOCKERD)
    world["a"].run("iptables-restore", str(rules))


def asked(world: World, at: str, server: socket.socket, address: str, port: int) -> str:
    """Connect from `at` to the server; the address that the server sees."""
    seen: list[str] = []

    def serve() -> None:
        connection, peer = server.accept()
        connection.sendall(b"hello")
        connection.close()
        seen.append(peer[0])

    server.settimeout(5)
    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with world[at].socket(socket.AF_INET, socket.SOCK_STREAM) as client:
            client.settimeout(5)
            client.connect((address, port))
            assert client.recv(5) == b"hello"
    finally:
        thread.join()
    return seen[0]


def test_a_published_port_of_a_container_answers_at_the_eid_and_a_container_calls_a_peer(tmp_path: Path) -> None:
    with World(tmp_path, tier="ebpf") as world:
        world.attach("a", "eth0", ["198.51.100.2/24"], metric=100)
        world.start_hub()
        for identity in (A, B):
            world.start_node(identity, extra="security: {seal: off}\n")
        world.wait_registered()
        docker(world)  # after lispd, whose rules follow
        world.wait(lambda: "from 172.17.0.0/16" in world["a"].run("ip", "rule"), "a rule for the containers", 5.0)
        with (
            world["guest"].socket(socket.AF_INET, socket.SOCK_STREAM) as web,
            world["b"].socket(socket.AF_INET, socket.SOCK_STREAM) as peer,
        ):
            for server, port in ((web, 80), (peer, 81)):
                server.bind(("0.0.0.0", port))
                server.listen()

            assert asked(world, "b", web, str(A.eid4), 8080) == str(B.eid4)
            assert asked(world, "guest", peer, str(B.eid4), 81) == str(A.eid4)
