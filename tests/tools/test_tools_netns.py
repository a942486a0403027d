"""The tools on real packets: lig beside lispd, without it, behind a NAT, as an ordinary user; lisp-echo in a move."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from lispmob.lab.namespace import Namespace
from lispmob.lab.real.world import HUB_V4, HUB_V6, A, B, World
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.map_notify import MapNotify
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import MapRequest
from lispmob.wire.record import Locator, MappingRecord
from tests.hub.exchange import xtr
from tests.hub.test_service import HUB, running, write_config

pytestmark = pytest.mark.netns
LIG = (sys.executable, "-m", "lispmob.tools.lig")
ECHO = (sys.executable, "-m", "lispmob.tools.echo_cli")
BLIND = ("--socket", "/nowhere/lispd.sock", "--config", "/nowhere/lispd.conf")


def lig(namespace: Namespace, *words: str) -> tuple[int, list[dict[str, Any]]]:
    """The exit code, and the lookups of its JSON."""
    command = namespace.argv(*LIG, "--json", *words)
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)["lookups"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A hub; `a` with two uplinks and lispd, everything through the overlay; `b` without lispd; `c` behind a NAT."""
    with World(tmp_path_factory.mktemp("lig"), tier="tun", label="g") as made:
        made.attach("a", "eth0", ["198.51.100.2/24", "2001:db8:a::2/64"], metric=100)
        made.attach("a", "eth1", ["203.0.113.2/24"], metric=200)
        made.home_router("r", "192.168.8.1/24", "198.19.0.2/24")
        made.add("c")
        made.behind("c", "eth0", "r", ["192.168.8.2/24"])
        made.start_hub(extra="")
        made.start_node(A, mode="full", extra="natt: {mode: 'off'}\n")
        made.wait_registered()
        yield made


def own(world: World) -> tuple[str, ...]:
    return (
        "--socket",
        str(world.directory / "a" / "lispd.sock"),
        "--config",
        str(world.directory / "a" / "lispd.conf"),
    )


def test_a_host_without_lispd_asks_over_both_families_at_once(world: World) -> None:
    code, lookups = lig(world["b"], "10.1.0.1", "-m", f"{HUB_V4},{HUB_V6}", *BLIND)

    assert code == 0
    assert {lookup["resolver"] for lookup in lookups} == {str(HUB_V4), str(HUB_V6)}
    assert {lookup["asked_from"] for lookup in lookups} == {"192.0.2.130", "2001:db8:b::2"}
    for lookup in lookups:
        answer = lookup["answer"]
        (record,) = answer["records"]
        assert (answer["source"], answer["source_port"], answer["answered_by"]) == (
            lookup["resolver"],
            4342,
            "map-resolver",
        )
        assert (record["eid"], record["ttl_min"]) == ("10.1.0.1/32", 10)
        states = {locator["address"]: locator["state"] for locator in record["locators"]}
        assert (states["198.51.100.2"], states["203.0.113.2"]) == ("up", "up")


def test_an_ipv6_eid_is_asked_for_over_ipv4_from_behind_a_nat(world: World) -> None:
    code, (one,) = lig(world["c"], "2001:db8:e::1", "-m", str(HUB_V4), *BLIND)

    assert (code, one["asked_from"]) == (0, "192.168.8.2")
    assert one["answer"]["records"][0]["eid"] == "2001:db8:e::1/128"


def test_beside_lispd_the_own_eids_are_asked_for_from_an_uplink_and_not_from_the_eid(world: World) -> None:
    code, lookups = lig(world["a"], "self", *own(world))

    assert code == 0
    assert {lookup["eid"] for lookup in lookups} == set(A.prefixes)
    assert {lookup["asked_from"] for lookup in lookups} == {"198.51.100.2"}
    assert all(locator["is_ours"] for lookup in lookups for locator in lookup["answer"]["records"][0]["locators"])


def test_a_multihomed_host_is_answered_at_the_address_that_it_chooses(world: World) -> None:
    code, (one,) = lig(world["a"], "10.1.0.1", "-m", str(HUB_V4), "-s", "203.0.113.2", *own(world))

    assert (code, one["asked_from"]) == (0, "203.0.113.2")


def test_an_unregistered_eid_is_answered_with_an_action_and_an_exit_code_of_its_own(world: World) -> None:
    code, (one,) = lig(world["b"], "10.77.0.1", "-m", str(HUB_V4), *BLIND)

    (record,) = one["answer"]["records"]
    assert (code, record["action"], record["locators"]) == (4, "natively-forward", [])


def test_a_silence_is_explained_by_icmp_and_by_the_family(world: World) -> None:
    quick = ("-c", "1", "-t", "0.3")

    closed_code, (closed,) = lig(world["c"], "10.1.0.1", "-m", "198.18.0.1", *quick, *BLIND)
    family_code, (family,) = lig(world["c"], "10.1.0.1", "-m", str(HUB_V6), *quick, *BLIND)

    assert (closed_code, family_code) == (1, 1)
    assert [reason["kind"] for reason in closed["reasons"]] == ["icmp", "timeout"]
    assert [reason["kind"] for reason in family["reasons"]] == ["wrong-family"]


def test_lisp_sec_proves_the_answer_with_the_key_of_lispd_conf_or_of_a_file_and_with_no_other(
    world: World, tmp_path: Path
) -> None:
    keys = {name: tmp_path / name for name in ("right", "wrong")}
    for name, path in keys.items():
        path.write_text({"right": "only-for-the-demonstration", "wrong": "another"}[name])
        path.chmod(0o600)
    asked = ("10.1.0.1", "-m", str(HUB_V4))

    configured = lig(world["a"], *asked, "--lisp-sec", *own(world))
    (by_file, _), (refused, (silent,)) = (
        lig(world["b"], *asked, "-c", "1", "-t", "0.4", "--key-file", str(path), *BLIND) for path in keys.values()
    )

    (one,) = configured[1]
    assert (configured[0], by_file, refused) == (0, 0, 1)
    assert (one["answer"]["is_genuine"], one["answer"]["vouched"]) == (True, ["10.1.0.1/32"])
    assert [reason["kind"] for reason in silent["reasons"]][-1] == "sec-unanswered"


def test_an_unregistered_name_is_answered_as_an_unregistered_eid(world: World) -> None:
    code, (one,) = lig(world["b"], "-n", "nobody", "-m", str(HUB_V4), *BLIND)

    assert (code, one["eid"], one["answer"]["records"][0]["eid"]) == (4, "nobody", "nobody")


@pytest.mark.ordinary_user
def test_an_ordinary_user_may_ask(world: World) -> None:
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all")

    said = world["b"].run(*nobody, *LIG, "10.1.0.1", "-m", str(HUB_V4), *BLIND)

    assert "198.51.100.2" in said


@pytest.fixture(scope="module")
def answering(world: World) -> Iterator[None]:
    """`b` runs lispd, and the server of lisp-echo on its EIDs."""
    world.start_node(B, extra="natt: {mode: 'off'}\n")
    world.wait_registered()
    command = world["b"].argv(*ECHO, "server", "--socket", str(world.directory / "b" / "lispd.sock"))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == f"lisp-echo: answering on {B.eid4}, {B.eid6} port 61007\n"
        yield
        server.terminate()
        server.communicate(timeout=10)


def echo(world: World, *words: str) -> subprocess.Popen[str]:
    command = (*ECHO, "client", str(B.eid4), "--json", "--socket", str(world.directory / "a" / "lispd.sock"), *words)
    return subprocess.Popen(world["a"].argv(*command), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.usefixtures("answering")
def test_an_echo_over_a_move_tells_what_left_by_which_uplink(world: World) -> None:
    with echo(world, "-v", "-c", "150", "-i", "0.02", "-w", "1") as client:
        assert client.stderr is not None
        for _ in range(40):  # answers
            assert client.stderr.readline().startswith("#")
        world.ip("a", "link set eth0 down")
        said, _ = client.communicate(timeout=30)
    world.ip("a", "link set eth0 up", "route replace default via 198.51.100.1 dev eth0 metric 100")

    shown = json.loads(said)
    sent = {uplink["uplink"]: uplink["sent"] for uplink in shown["uplinks"]}
    assert shown["sent"] == 150 == sum(sent.values())
    assert min(sent["eth0"], sent["eth1"]) > 0, shown
    assert shown["answered"] > 50, shown  # a move just after another one is reported a second later
    assert [change["uplink"] for change in shown["uplink_changes"] if change["uplink"].startswith("eth")] == [
        "eth0",
        "eth1",
    ]
    assert sum(bucket["count"] for bucket in shown["gaps"]["there"]["histogram"]) == shown["answered"] - 1


@pytest.mark.usefixtures("answering")
def test_an_echo_over_tcp_from_the_eid_loses_nothing(world: World) -> None:
    words = ("--tcp", "-c", "20", "-i", "0.01", "--source", str(A.eid4), "-s", "4000")

    with echo(world, *words) as client:
        said, _ = client.communicate(timeout=30)

    shown = json.loads(said)
    assert (client.returncode, shown["sent"], shown["lost"], shown["transport"]) == (0, 20, 0, "TCP")
    assert shown["source"] == str(A.eid4)


def test_the_answer_of_an_etr_comes_to_the_port_that_asked(namespace: Namespace, tmp_path: Path) -> None:
    etr = namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
    etr.settimeout(10)
    etr.bind(("127.0.0.5", 4342))
    with running(namespace, write_config(tmp_path)), etr:
        etr.sendto(xtr("127.0.0.5").register("10.1.0.1/32", proxy_map_reply=False).payload, (HUB, 4342))
        MapNotify.decode(etr.recv(2000))
        answering = threading.Thread(target=answer_as_etr, args=(etr,))
        answering.start()
        code, (one,) = lig(namespace, "10.1.0.1", "-m", HUB, *BLIND)
        answering.join(10)

    answer = one["answer"]
    assert (code, answer["source"], answer["answered_by"]) == (0, "127.0.0.5", "etr")
    assert answer["records"][0]["is_authoritative"]
    assert answer["records"][0]["locators"][0]["is_local"]


def answer_as_etr(etr: socket.socket) -> None:
    """Answer the one Map-Request that the Map-Server forwards, as RFC 9301, 8.4 demands."""
    ecm = EncapsulatedControl.decode(etr.recv(2000))
    request = MapRequest.decode(ecm.message)
    prefix = request.records[0].eid_prefix
    assert prefix is not None
    locator = Locator(ip_address("127.0.0.5"), is_local=True)
    record = MappingRecord.of(prefix, [locator], is_authoritative=True)
    etr.sendto(MapReply(request.nonce, (record,)).encode(), (str(request.itr_rlocs[0]), ecm.source_port))
