"""lisphub as a process in a namespace of its own: start, answer, survive, reload, stop, and refuse with a reason."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from lispmob.hub.store.store import Clock, Store
from lispmob.lab.namespace import Namespace, NamespaceSet
from lispmob.wire.data_header import DataHeader
from lispmob.wire.ip_udp import UdpPacket, parse_ip_udp
from lispmob.wire.map_notify import MapNotify
from lispmob.wire.map_reply import MapReply
from tests.hub.exchange import KEY, ask, eid, rlocs_of, xtr

pytestmark = pytest.mark.netns
HUB, NODE = "127.0.0.1", "127.0.0.5"
LISPHUB = (sys.executable, "-m", "lispmob.hub.daemon")
CONF = """
sites:
  - name: home
    eids: [10.1.0.0/16]
    key: {key}
    accept-more-specifics: yes
state-file: {directory}/hub.sqlite
control-socket: {directory}/hub.sock
{more}
"""


def write_config(directory: Path, more: str = f"listen: [{HUB}]") -> Path:
    path = directory / "hub.conf"
    path.write_text(CONF.format(key=KEY.secret.decode(), directory=directory, more=more))
    path.chmod(0o600)
    return path


def wait_for(process: subprocess.Popen[str], text: str) -> None:
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if text in line:
            return
    raise AssertionError(f"{text!r} was not logged, but: {''.join(seen)}")


def wait_until_kept(directory: Path, rloc: str) -> None:
    """Wait until the state file holds a registration with this locator."""
    store, deadline = Store(directory / "hub.sqlite", Clock(time.monotonic, time.time)), time.monotonic() + 10
    while True:
        store.open_to_read()
        kept = [place for part in store.load_parts() for place in rlocs_of(part.record)]
        store.close()
        if rloc in kept:
            return
        assert time.monotonic() < deadline, kept
        time.sleep(0.05)


@contextlib.contextmanager
def running(namespace: Namespace, config: Path) -> Iterator[subprocess.Popen[str]]:
    command = namespace.argv(*LISPHUB, "-c", str(config))
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_for(process, "ready")
            yield process
        finally:
            process.terminate()
            process.wait(10)


def node_socket(namespace: Namespace, address: str = NODE, port: int = 4342) -> socket.socket:
    one = namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.settimeout(5)
    one.bind((address, port))
    return one


def register(namespace: Namespace) -> MapNotify:
    with node_socket(namespace) as node:
        node.sendto(xtr(NODE).register("10.1.0.1/32").payload, (HUB, 4342))
        return MapNotify.decode(node.recv(2000))


def look_up(namespace: Namespace, asked: str = "10.1.0.1/32") -> list[str]:
    with node_socket(namespace, "127.0.0.9", 50000) as itr:
        itr.sendto(ask(asked, itr="127.0.0.9").payload, (HUB, 4342))
        return rlocs_of(MapReply.decode(itr.recv(2000)).records[0])


def test_it_registers_answers_and_remembers_over_a_restart(namespace: Namespace, tmp_path: Path) -> None:
    config = write_config(tmp_path)

    with running(namespace, config):
        assert register(namespace).records[0].eid_prefix == eid("10.1.0.1/32")
        assert look_up(namespace) == [NODE]
    with running(namespace, config):
        assert look_up(namespace) == [NODE]
        shown = namespace.run(*LISPHUB, "-c", str(config), "--show")

    assert shown.startswith(f"10.1.0.1/32  {NODE}(1/100)  1")


def test_a_kill_loses_nothing_that_was_there_for_some_seconds(namespace: Namespace, tmp_path: Path) -> None:
    config = write_config(tmp_path)
    with running(namespace, config) as process:
        register(namespace)
        wait_until_kept(tmp_path, NODE)
        process.send_signal(signal.SIGKILL)
        process.wait(10)

    with running(namespace, config):
        assert look_up(namespace) == [NODE]


def test_a_register_that_was_recorded_is_refused_after_a_kill_too(namespace: Namespace, tmp_path: Path) -> None:
    config, node = write_config(tmp_path), xtr(NODE)
    recorded, newer = node.register("10.1.0.1/32", rlocs=["192.0.2.9"]).payload, node.register("10.1.0.1/32").payload
    with running(namespace, config) as process, node_socket(namespace) as sender:
        for payload in (recorded, newer):
            sender.sendto(payload, (HUB, 4342))
            sender.recv(2000)
        wait_until_kept(tmp_path, NODE)
        process.send_signal(signal.SIGKILL)
        process.wait(10)

    with running(namespace, config) as process, node_socket(namespace) as sender:
        sender.sendto(recorded, (HUB, 4342))
        wait_for(process, "needs 'strict-nonces: auto' in its site")
        assert look_up(namespace) == [NODE]


def test_a_hangup_changes_the_sites_and_a_broken_file_changes_nothing(namespace: Namespace, tmp_path: Path) -> None:
    config = write_config(tmp_path)
    with running(namespace, config) as process:
        register(namespace)

        config.write_text("sites: [{name: home}]")
        process.send_signal(signal.SIGHUP)
        wait_for(process, "the configuration stays as it was")
        assert look_up(namespace) == [NODE]

        config.write_text(f"sites: []\nlisten: [{HUB}]\nstate-file: {tmp_path}/hub.sqlite")
        process.send_signal(signal.SIGHUP)
        wait_for(process, "reloaded sites=0")
        assert look_up(namespace) == []


def test_a_user_signal_has_the_counters_logged(namespace: Namespace, tmp_path: Path) -> None:
    with running(namespace, write_config(tmp_path)) as process:
        register(namespace)
        process.send_signal(signal.SIGUSR1)

        wait_for(process, "received=1 registration_registered=1 rx_map_register=1 sent=1 tx_map_notify=1")


def test_termination_is_clean(namespace: Namespace, tmp_path: Path) -> None:
    with running(namespace, write_config(tmp_path)) as process:
        process.terminate()

        assert process.wait(10) == 0


def test_without_a_writable_state_file_it_works_and_says_so(namespace: Namespace, tmp_path: Path) -> None:
    config = write_config(tmp_path)
    config.write_text(config.read_text().replace("hub.sqlite", "missing/hub.sqlite"))

    process = subprocess.Popen(namespace.argv(*LISPHUB, "-c", str(config)), stderr=subprocess.PIPE, text=True)
    with process:
        try:
            wait_for(process, "registrations will not survive a restart")
            wait_for(process, "ready")
            assert register(namespace).records[0].eid_prefix == eid("10.1.0.1/32")
        finally:
            process.terminate()


def refused(namespace: Namespace, config: Path) -> tuple[int, str]:
    done = subprocess.run(
        namespace.argv(*LISPHUB, "-c", str(config)), capture_output=True, text=True, timeout=10, check=False
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def test_a_taken_port_is_exit_code_1(namespace: Namespace, tmp_path: Path) -> None:
    with node_socket(namespace, "0.0.0.0"):
        code, said = refused(namespace, write_config(tmp_path, ""))

    assert code == 1
    assert "UDP port 4342 on all addresses is in use" in said


def test_a_broken_configuration_is_exit_code_78(namespace: Namespace, tmp_path: Path) -> None:
    config = tmp_path / "hub.conf"
    config.write_text("sites: 7")

    code, said = refused(namespace, config)

    assert code == 78
    assert said.startswith(f"{config}:1:8: sites: ")


@pytest.fixture
def street(namespaces: NamespaceSet) -> NamespaceSet:
    """A node, the hub, and a host without LISP, in a row: 203.0.113.0/24 and 192.0.2.0/24."""
    for word in ("node", "hub", "world"):
        namespaces.make(word)
    for word, ours, theirs, net in (("node", "eth0", "eth0", "203.0.113"), ("world", "eth0", "eth1", "192.0.2")):
        command = ("link", "add", ours, "netns", namespaces[word].name, "type", "veth")
        subprocess.run(["ip", *command, "peer", "name", theirs, "netns", namespaces["hub"].name], check=True)
        for host, interface, number in ((word, ours, 5), ("hub", theirs, 1)):
            namespaces[host].run("ip", "addr", "add", f"{net}.{number}/24", "dev", interface)
            namespaces[host].run("ip", "link", "set", interface, "up")
    namespaces["world"].run("ip", "route", "add", "10.1.0.0/16", "via", "192.0.2.1")
    namespaces["hub"].sysctl("ipv4/ip_forward", "1")
    return namespaces


def test_the_proxy_carries_packets_between_a_node_and_the_world(street: NamespaceSet, tmp_path: Path) -> None:
    config = write_config(
        tmp_path, "proxy: {enabled: yes, tun: lmh0, interfaces: [eth0], allow: [192.0.2.5], deny: [own, 10.0.0.0/8]}"
    )
    node_eid, world, rloc, hub = map(ip_address, ("10.1.0.1", "192.0.2.5", "203.0.113.5", "203.0.113.1"))
    with (
        running(street["hub"], config),
        node_socket(street["node"], str(rloc)) as control,
        node_socket(street["node"], str(rloc), 4341) as data,
        node_socket(street["world"], str(world), 7000) as host,
    ):
        control.sendto(xtr(str(rloc)).register(str(eid("10.1.0.1/32"))).payload, (str(hub), 4342))
        MapNotify.decode(control.recv(2000))

        host.sendto(b"ping", (str(node_eid), 9000))
        arrived, sender = data.recvfrom(2000)
        inner = parse_ip_udp(arrived[8:])
        answer = UdpPacket(node_eid, 9000, world, 7000, b"pong", 64)
        data.sendto(DataHeader().encode() + answer.encode(), (str(hub), 4341))
        payload, source = host.recvfrom(2000)

    assert sender[0] == str(hub)
    assert (inner.source, inner.destination, inner.payload) == (world, node_eid, b"ping")
    assert (payload, source) == (b"pong", (str(node_eid), 9000))


def test_nodes_reach_neither_the_hub_itself_nor_its_networks_through_it(street: NamespaceSet, tmp_path: Path) -> None:
    config = write_config(tmp_path, "proxy: {enabled: yes, tun: lmh0, interfaces: [eth0]}")
    node_eid, rloc, hub = map(ip_address, ("10.1.0.1", "203.0.113.5", "203.0.113.1"))
    with (
        running(street["hub"], config) as process,
        node_socket(street["node"], str(rloc)) as control,
        node_socket(street["node"], str(rloc), 4341) as data,
        node_socket(street["world"], "192.0.2.5", 7000) as neighbour,
        node_socket(street["hub"], "192.0.2.1", 7000) as itself,
    ):
        control.sendto(xtr(str(rloc)).register("10.1.0.1/32").payload, (str(hub), 4342))
        MapNotify.decode(control.recv(2000))
        for denied in ("192.0.2.5", "192.0.2.1", "192.168.0.1"):
            packet = UdpPacket(node_eid, 9000, ip_address(denied), 7000, b"hello", 64)
            data.sendto(DataHeader().encode() + packet.encode(), (str(hub), 4341))

        deadline = time.monotonic() + 10
        said = ""
        while "data_denied=3" not in said and time.monotonic() < deadline:
            process.send_signal(signal.SIGUSR1)
            assert process.stderr is not None
            said = process.stderr.readline()
        assert "data_denied=3" in said
        for host in (neighbour, itself):
            host.setblocking(False)
            with pytest.raises(BlockingIOError):
                host.recv(2000)


def test_the_proxys_device_and_routes_are_gone_after_a_kill(street: NamespaceSet, tmp_path: Path) -> None:
    config = write_config(tmp_path, "proxy: {enabled: yes}")
    with running(street["hub"], config) as process:
        assert "10.1.0.0/16 dev lmh0" in street["hub"].run("ip", "route")
        process.send_signal(signal.SIGKILL)
        process.wait(10)

    assert "lmh0" not in street["hub"].run("ip", "route")
    assert "lmh0" not in street["hub"].run("ip", "link")


def test_a_machine_that_does_not_forward_is_told_so_and_left_alone(street: NamespaceSet, tmp_path: Path) -> None:
    street["hub"].sysctl("ipv4/ip_forward", "0")
    command = street["hub"].argv(*LISPHUB, "-c", str(write_config(tmp_path, "proxy: {enabled: yes}")))

    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_for(process, "sysctl -w net.ipv4.ip_forward=1")
        finally:
            process.terminate()

    assert street["hub"].run("cat", "/proc/sys/net/ipv4/ip_forward").strip() == "0"


@pytest.mark.skipif(os.geteuid() != 0, reason="drops privileges, so it needs some")
def test_a_proxy_without_the_right_to_one_is_exit_code_77(namespace: Namespace, tmp_path: Path) -> None:
    config = write_config(tmp_path, "proxy: {enabled: yes}\nlisten: [127.0.0.1]")
    command = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", *LISPHUB, "-c", str(config))

    done = subprocess.run(namespace.argv(*command), capture_output=True, text=True, timeout=10, check=False)

    assert done.returncode == 77
    assert "CAP_NET_ADMIN" in done.stderr
    assert "Traceback" not in done.stderr
