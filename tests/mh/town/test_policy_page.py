"""docs/policies.md as written: each example is configured, its packets are sent, and counted on the uplinks."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator

import pytest
import yaml

from lispmob.lab.line import Impairment
from lispmob.lab.process import module
from lispmob.lab.topology import AccessNetwork, Host, Topology, Uplink, roaming
from lispmob.mh.kernel import cgroups
from tests.mh.town.policy_page import Example, Packets, examples
from tests.mh.town.town import A, B, Town, town, wait_for

pytestmark = pytest.mark.netns

EXAMPLES = examples()
METRICS = {"eth0": 100, "wlan0": 200, "wwan0": 300}
NETWORKS = {"eth0": "home", "wlan0": "cafe", "wwan0": "lte"}
SITE = "10.1.9.0/24"  # an EID-Prefix of ours, with a machine in it that is behind this host
COUNT = 30
TOLERANCE = 0.12  # 200 flows: four times the standard deviation
BASH = 'for _ in $(seq $3); do printf "%064d" 0 > "/dev/udp/$1/$2"; done'


def laptop() -> Topology:
    """A node with Ethernet, Wi-Fi and LTE."""
    usual = roaming(0.002)
    networks = tuple(
        AccessNetwork(
            network.name,
            network.v4,
            None if network.name in ("home", "office") else network.v6,
            Impairment(delay_s=0.002),
        )
        for network in usual.networks
    )
    uplinks = tuple(Uplink(name, NETWORKS[name], metric=METRICS[name]) for name in METRICS)
    return Topology(networks, (Host("a", uplinks), *(host for host in usual.hosts if host.name != "a")))


@pytest.fixture(scope="module")
def here() -> Iterator[Town]:
    """One laboratory for all examples."""
    with town(topology=laptop()) as made:
        made.show_cgroups()
        yield made


def test_the_page_has_examples_of_everything_that_can_select() -> None:
    text = "\n".join(example.block for example in EXAMPLES)

    assert len(EXAMPLES) >= 12
    for key in ("weight", "prefer", "ports", "metered", "dscp", "user", "cgroup", "from-interface", "otherwise"):
        assert f"{key}:" in text, key


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.title)
def test_an_example_does_what_the_page_says(here: Town, example: Example) -> None:
    needs_cgroups = any(packets.cgroup or packets.is_of_command for packets in example.packets)
    if needs_cgroups and cgroups.root() is None:
        pytest.skip("no unified control group hierarchy")
    with contextlib.ExitStack() as stack:
        configure(here, example, stack)
        for packets in example.packets:
            with lost(here, packets.without):
                settle(here, example)
                assert measured(here, packets, example) == packets.shares, packets.text


def configure(here: Town, example: Example, stack: contextlib.ExitStack) -> None:
    base = here.base("a").replace("eids: [", f'eids: ["{SITE}", ', 1)
    here.conf("a").write_text(base + (example.block if example.language == "yaml" else ""))
    for packets in example.packets:
        if packets.cgroup is not None:
            stack.enter_context(group(packets.cgroup))
    here.ctl("reload")
    if example.block.startswith("iptables"):
        here.a.run("sh", "-ec", example.block)
        stack.callback(here.a.run, "iptables", "-t", "mangle", "-D", "OUTPUT", "1")


def settle(here: Town, example: Example) -> None:
    """Wait until the chain has the rules of this example and no others."""
    told = yaml.safe_load(example.block) if example.language == "yaml" else {}
    names = {rule["name"] for rule in told.get("steering", {}).get("rules", [])}

    def is_settled() -> bool:
        lines = here.a.run("iptables-save", "-t", "mangle").splitlines()
        ours = [line for line in lines if line.startswith("-A LISPMOB-") and "--comment" in line]
        return {line.split("--comment ")[1].strip('"').split(" -")[0].strip('"') for line in ours} == names

    wait_for(is_settled, 8)
    time.sleep(0.1)


@contextlib.contextmanager
def lost(here: Town, uplinks: tuple[str, ...]) -> Iterator[None]:
    """These uplinks are down during the block."""
    for name in uplinks:
        here.a.run("ip", "link", "set", name, "down")
    try:
        if uplinks:
            wait_for(lambda: not {up["name"] for up in here.ctl("uplinks") if up["is_used"]} & set(uplinks), 8)
            time.sleep(0.3)
        yield
    finally:
        for name in uplinks:
            gateway = here.lab.topology.network(NETWORKS[name]).v4
            assert gateway is not None
            here.a.run("ip", "link", "set", name, "up")
            metric = str(METRICS[name])
            here.a.run("ip", "route", "replace", "default", "via", str(gateway[1]), "dev", name, "metric", metric)
        if uplinks:
            wait_for(lambda: {up["name"] for up in here.ctl("uplinks") if up["is_used"]} >= set(uplinks), 8)


def measured(here: Town, packets: Packets, example: Example) -> dict[str, float]:
    """The counted shares; a share within the tolerance is shown as the expected one."""
    seal(here, example, is_sealed=packets.is_sealed)
    before = here.counted()
    if len(packets.shares) > 1 and packets.flows == 1:
        return twice(here, packets)
    if packets.flows > 1:
        return shared(here, packets)
    if packets.is_native:
        return natively(here, packets)
    if (packets.user, packets.cgroup, packets.origin) != (None, None, None) or packets.is_of_command:
        subprocess.run(sender(here, packets, example), check=False, capture_output=True, timeout=20)
    else:
        send(here, packets, COUNT)
    carrier = here.carrier(before, COUNT, patience_s=1.0 if packets.shares else 0.3)
    return {} if carrier is None else {carrier: 1.0}


def seal(here: Town, example: Example, *, is_sealed: bool) -> None:
    """Let both nodes seal, or neither. Examples that do not mention sealing run in clear: their packets are read."""
    is_now = "seal: prefer" in here.conf("a").read_text()
    if is_now is is_sealed:
        return
    for node in "ab":
        text = here.conf(node).read_text()
        words = "seal: off", "seal: prefer"
        here.conf(node).write_text(text.replace(*words if is_sealed else words[::-1]))
        here.ctl("reload", node=node)
    settle(here, example)

    def seals() -> bool:
        here.ping()
        why = here.ctl("why", "udp", f"{B.eid4}:9")
        return any(step["stage"] == "seal" and step["text"].startswith("sealed") for step in why["steps"])

    if is_sealed:
        wait_for(seals, 15)


def twice(here: Town, packets: Packets) -> dict[str, float]:
    """The uplinks that have carried all of the packets each."""
    before = here.counted()
    send(here, packets, COUNT)
    time.sleep(0.3)
    carried = {name: count - before[name] for name, count in here.counted().items()}
    return {name: 1.0 for name, count in carried.items() if count >= COUNT * 4 // 5}


def natively(here: Town, packets: Packets) -> dict[str, float]:
    """The uplinks by which a datagram left unchanged, from an address of this host that is no EID."""
    found: dict[str, float] = {}
    with contextlib.ExitStack() as stack:
        watched = {name: stack.enter_context(here.a.socket(socket.AF_PACKET, socket.SOCK_DGRAM)) for name in METRICS}
        for name, one in watched.items():
            one.bind((name, 0x0003))  # ETH_P_ALL: outgoing ones, too
            one.settimeout(0.5)
        send(here, packets, 1)
        for name, one in watched.items():
            with contextlib.suppress(TimeoutError):
                for _ in range(100):
                    datagram = one.recv(2000)
                    is_ours = datagram[9:10] == b"\x11" and datagram[22:24] == packets.port.to_bytes(2)
                    if datagram[:1] == b"\x45" and is_ours and datagram[16:20] == B.eid4.packed:
                        assert datagram[12:16] != A.eid4.packed
                        found[name] = 1.0
                        break
    return found


def shared(here: Town, packets: Packets) -> dict[str, float]:
    before = here.counted()
    for _ in range(packets.flows):
        send(here, packets, 3)
    time.sleep(0.2)
    sent = {name: count - before[name] for name, count in here.counted().items()}
    total = sum(sent.values())
    found = {name: count / total for name, count in sent.items() if count / total > TOLERANCE}
    near = {name: abs(share - packets.shares.get(name, 0)) < TOLERANCE for name, share in found.items()}
    return {name: packets.shares[name] if near[name] else share for name, share in found.items()}


def send(here: Town, packets: Packets, count: int) -> None:
    with here.a.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, packets.dscp << 2)
        if packets.mark:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, packets.mark)
        one.connect((str(B.eid4), packets.port))
        for _ in range(count):
            with contextlib.suppress(OSError):
                one.send(b"x" * 64)


def sender(here: Town, packets: Packets, example: Example) -> list[str]:
    """A command that sends the packets from the place that the page names."""
    line = ["bash", "-c", BASH, "bash", str(B.eid4), str(packets.port), str(COUNT)]
    if packets.is_of_command:
        words = example.block.split()
        run = [word.strip('"') for word in words[words.index("run") : words.index("COMMAND")]]
        socket_path = here.directory / "a" / "lispd.sock"
        return inside(here, *module("lispmob.lispctl.main", "--socket", str(socket_path), *run, *line))
    if packets.user is not None:
        return inside(here, "setpriv", f"--reuid={packets.user}", f"--regid={packets.user}", "--clear-groups", *line)
    if packets.cgroup is not None:
        procs = cgroups.root() / packets.cgroup / "cgroup.procs"  # type: ignore[operator]
        return inside(here, "sh", "-c", f'echo $$ > {procs}; exec "$@"', "sh", *line)
    return ["sh", "-c", behind(here, str(packets.origin)), "sh", *line]


def inside(here: Town, *command: str) -> list[str]:
    # Not `ip netns exec`, which hides the control groups behind another /sys.
    return ["nsenter", f"--net=/run/netns/{here.a.name}", *command]


def behind(here: Town, interface: str) -> str:
    """A script that runs its arguments on a machine behind an interface of a's, which it adds and removes."""
    net = f"/run/netns/{here.a.name}"
    return f"""
        exec unshare --net sh -c '
            nsenter --net={net} sh -ec "ip link add {interface} type veth peer name client netns $$
                ip addr add 10.1.9.1/24 dev {interface}; ip link set {interface} up
                echo 1 > /proc/sys/net/ipv4/ip_forward"
            ip addr add 10.1.9.2/24 dev client; ip link set client up
            for _ in $(seq 100); do ip -br link show client | grep -q UP && break; sleep 0.02; done
            ip route add default via 10.1.9.1
            "$@"
            sleep 0.3
        ' sh "$@"
    """


@contextlib.contextmanager
def group(path: str) -> Iterator[None]:
    base = cgroups.root()
    assert base is not None
    place = base / path
    place.mkdir(parents=True)
    try:
        yield
    finally:
        place.rmdir()
        with contextlib.suppress(OSError):
            os.rmdir(place.parent)
