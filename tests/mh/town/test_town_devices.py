"""Where bpf(2) is refused: a device and a routing rule for each uplink replace the program in the TUN device."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from lispmob.lab.namespace import Namespace
from tests.lispd.running.world import network_listing
from tests.mh.town.town import A, B, Town, town, wait_for

pytestmark = pytest.mark.netns

ALL_BY_LTE = "steering:\n  rules:\n    - {name: all, via: [lte0]}\n"


@contextlib.contextmanager
def watching(host: Namespace, *interfaces: str) -> Iterator[dict[str, socket.socket]]:
    """A packet socket on each interface."""
    with contextlib.ExitStack() as stack:
        taps = {}
        for name in interfaces:
            taps[name] = stack.enter_context(host.socket(socket.AF_PACKET, socket.SOCK_RAW))
            taps[name].bind((name, 3))  # ETH_P_ALL, without which packets that leave are not shown
        yield taps


def carrier(taps: dict[str, socket.socket], token: bytes, patience_s: float = 2.0) -> str | None:
    """The interface on which the token passes; None: on none of them."""
    names = {tap.fileno(): name for name, tap in taps.items()}
    deadline = time.monotonic() + patience_s
    while (rest := deadline - time.monotonic()) > 0:
        ready, _, _ = select.select(list(taps.values()), [], [], rest)
        for tap in ready:
            if token in tap.recv(65536):
                return names[tap.fileno()]
    return None


def mark(sock: socket.socket, value: int) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, value)


def by_mark(here: Town, family: int) -> dict[str, str]:
    """The table to which each mark of an uplink leads."""
    rules = [line.split() for line in here.a.run("ip", f"-{family}", "rule").splitlines() if "fwmark" in line]
    found = ((rule[rule.index("fwmark") + 1], rule[rule.index("lookup") + 1]) for rule in rules)
    return {value: table for value, table in found if value.partition("/")[0] != "0"}


def devices(here: Town) -> set[str]:
    return {name for name in here.a.run("ls", "/sys/class/net").split() if name.startswith("lmn0")}


def test_the_status_says_how_marks_choose_an_uplink_and_why_so() -> None:
    with town() as here:
        usual, program = here.say("status"), here.ctl("status")["datapath"]
    with town(has_bpf=False) as here:
        without, devices = here.say("status"), here.ctl("status")["datapath"]

    assert "Marks      steering program" in usual
    assert program["marks"] == "program"
    folded = " ".join(" ".join(without).split())
    assert "Marks a device per uplink (bpf(BPF_PROG_LOAD) refused (EPERM): needs CAP_BPF" in folded
    assert (devices["marks"], devices["tier"]) == ("devices", "tun")


@pytest.mark.parametrize("family", [4, 6])
def test_a_mark_takes_effect_with_the_next_packet_and_ceases_with_the_next(family: int) -> None:
    source, destination = {4: (A.eid4, B.eid4), 6: (A.eid6, B.eid6)}[family]
    kind = {4: socket.AF_INET, 6: socket.AF_INET6}[family]
    with town(has_bpf=False) as here, watching(here.a, "wlan0", "lte0") as taps:
        marks = {here.ifindex(name): name for name in taps}
        wlan, lte = marks
        seen, expected = [], []
        with here.a.socket(kind, socket.SOCK_DGRAM) as bound, here.a.socket(kind, socket.SOCK_DGRAM) as free:
            bound.bind((str(source), 0))
            free.connect((str(destination), 9))  # the kernel gives it a source, and remembers the route
            for sock in (bound, free):
                for value in (0, lte, wlan, lte, 0, lte | 0x70000):
                    token = os.urandom(8)
                    mark(sock, value)
                    sock.sendto(token, (str(destination), 9))
                    seen.append(carrier(taps, token))
                    expected.append(marks.get(value & 0xFFFF, "wlan0"))
            own = free.getsockname()[0]

    assert seen == expected
    assert own == str(source)


def test_a_mark_that_names_no_uplink_falls_back_or_is_dropped_as_configured_and_is_counted() -> None:
    with town(has_bpf=False) as here:
        fallback = here.by_uplink(50, mark=4000)
        here.configure("steering: {unusable-mark: drop}\n")
        wait_for(lambda: max(here.by_uplink(50, mark=4000).values()) < 20, 10)
        before = here.ctl("counters")["datapath"]
        here.send(50, mark=4000)
        time.sleep(0.2)
        after = here.ctl("counters")["datapath"]

    assert fallback["wlan0"] >= 50
    assert before["out_mark_fallback"] >= 50
    assert after["out_mark_drop"] - before["out_mark_drop"] == 50


@pytest.mark.parametrize("rp_filter", ["1", "2"])
def test_an_answer_leaves_by_the_uplink_of_the_question_whatever_the_reverse_path_filter(rp_filter: str) -> None:
    with town(has_bpf=False) as here, watching(here.a, "wlan0", "lte0") as taps, contextlib.ExitStack() as stack:
        for name in ("all", "lmn0"):
            here.a.run("sh", "-c", f"echo {rp_filter} > /proc/sys/net/ipv4/conf/{name}/rp_filter")
        here.configure(ALL_BY_LTE)
        wait_for(lambda: "all" in here.a.run("iptables-save", "-t", "mangle"), 10)
        service = stack.enter_context(here.a.socket(socket.AF_INET, socket.SOCK_DGRAM))
        client = stack.enter_context(here.b.socket(socket.AF_INET, socket.SOCK_DGRAM))
        service.bind((str(A.eid4), 9000))
        service.settimeout(5)
        client.bind((str(B.eid4), 0))
        question, answer, own = (os.urandom(8) for _ in range(3))
        client.sendto(question, (str(A.eid4), 9000))
        came_in = carrier(taps, question)
        _, who = service.recvfrom(100)
        service.sendto(answer, who)
        went_out = carrier(taps, answer)
        service.sendto(own, (str(B.eid4), 9))
        of_our_own = carrier(taps, own)

    assert (came_in, went_out, of_our_own) == ("wlan0", "wlan0", "lte0")


def test_device_and_rules_go_and_come_with_the_uplink() -> None:
    with town(has_bpf=False) as here:
        wlan, lte = here.ifindex("wlan0"), here.ifindex("lte0")
        wait_for(lambda: len(by_mark(here, 4)) == len(by_mark(here, 6)) == 2, 10)
        everything = {f"{index:#x}/0xffff" for index in (wlan, lte)}
        before = by_mark(here, 4), by_mark(here, 6), devices(here)

        here.a.run("ip", "link", "set", "lte0", "down")
        wait_for(lambda: len(by_mark(here, 4)) == len(by_mark(here, 6)) == 1, 10)
        without = by_mark(here, 4), by_mark(here, 6)
        fallback = here.by_uplink(50, mark=lte)
        wait_for(lambda: devices(here) == before[2] - {f"lmn0-{lte}"}, 10)
        here.a.run("ip", "link", "set", "lte0", "up")
        here.a.run(*["ip", "route", "replace", "default", "via", "198.18.2.1", "dev", "lte0", "metric", "200"])
        wait_for(lambda: len(by_mark(here, 4)) == 2, 20)
        again = by_mark(here, 4), devices(here)
        marked = here.by_uplink(200, mark=lte)

        assert set(before[0]) == set(before[1]) == everything
        assert before[2] == {"lmn0", "lmn0-x", f"lmn0-{wlan}", f"lmn0-{lte}"}
        assert set(without[0]) == set(without[1]) == everything - {f"{lte:#x}/0xffff"}
        assert fallback["wlan0"] >= 50
        assert (set(again[0]), again[1]) == (everything, before[2])
        assert marked["lte0"] >= 200 > 50 > marked["wlan0"]


def ours(here: Town) -> list[str]:
    """What a host has of lispd's."""
    signs = ("lmn0", "proto 201", "LISPMOB")
    return [line for line in network_listing(here.a).splitlines() if any(sign in line for sign in signs)]


def test_nothing_is_left_after_a_stop_nor_after_a_crash_a_start_and_a_stop() -> None:
    with town(has_bpf=False) as here:
        running = ours(here)
        here.nodes["a"].daemon.stop()
        stopped = ours(here)
        here.start(A, "")
        wait_for(here.nodes["a"].is_registered, 20)
        wait_for(lambda: len(by_mark(here, 6)) == 2, 10)
        here.nodes["a"].daemon.kill()
        crashed = ours(here)
        here.start(A, "")
        wait_for(here.nodes["a"].is_registered, 20)
        wait_for(lambda: len(by_mark(here, 6)) == 2, 10)
        again = ours(here)
        here.nodes["a"].daemon.stop()

        assert any("fwmark" in line for line in running)
        assert stopped == []
        assert any("fwmark" in line for line in crashed), "a crash leaves rules behind: else this test shows nothing"
        assert sorted(line for line in again if "fwmark" in line) == sorted(
            line for line in running if "fwmark" in line
        )
        assert ours(here) == []


@pytest.mark.parametrize("loss", ["ip addr flush dev lte0", "ip link set lte0 down"])
def test_flows_of_a_mark_lose_no_packet_when_its_uplink_goes(loss: str) -> None:
    count = 2000
    with town(ALL_BY_LTE, has_bpf=False) as here, contextlib.ExitStack() as stack:
        wait_for(lambda: "all" in here.a.run("iptables-save", "-t", "mangle"), 10)
        sender = stack.enter_context(here.a.socket(socket.AF_INET, socket.SOCK_DGRAM))
        receiver = stack.enter_context(here.b.socket(socket.AF_INET, socket.SOCK_DGRAM))
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        receiver.bind((str(B.eid4), 9))
        receiver.settimeout(2)
        sender.bind((str(A.eid4), 0))
        changes = threading.Thread(target=here.a.run, args=("sh", "-c", loss))
        before = here.counted()
        for number in range(count):
            sender.sendto(b"%d" % number, (str(B.eid4), 9))
            if number == count // 4:
                changes.start()
            time.sleep(0.0005)
        changes.join()
        came: set[int] = set()
        with contextlib.suppress(TimeoutError):
            while len(came) < count:
                came.add(int(receiver.recv(100)))
        carried = {name: sent - before[name] for name, sent in here.counted().items()}

    assert sorted(set(range(count)) - came) == []
    assert min(carried.values()) > count // 10
