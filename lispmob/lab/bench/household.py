"""What a household waits for: from the line of an invitation to a working node, and for the answer to a name.

The cables have no delay, so a figure contains no round trips: a real network adds those that README counts.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from lispmob.api.client import Client
from lispmob.errors import LispError
from lispmob.lab.bench.traffic import Figures
from lispmob.lab.demo_service import Identity
from lispmob.lab.process import Daemon, ProcessFailed, module
from lispmob.lab.real.world import HUB_V4, World

LISPCTL: Final = "lispmob.lispctl.main"
LISPHUB: Final = "lispmob.hub.cli.main"
DOMAIN: Final = "lisp.home.arpa"
CACHED: Final = 300
KNOWN: Final = 20  # a program of one user gets answers to so many new names at once (names/shares.py)
PATIENCE_S: Final = 20.0
_LOOK_S: Final = 0.01
_INVITATIONS: Final = f"""\
rtr: {{enabled: yes}}
invitations: {{addresses: [{HUB_V4}], pools: [10.99.0.0/24, "fd00:99::/64"], domain: {DOMAIN}}}
"""
# The program asks as the C library does: one question per datagram, then it waits. Prints milliseconds, a line each.
ASKER: Final = """
import socket, sys, time
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.settimeout(5)
sock.connect((sys.argv[1], int(sys.argv[2])))
for number, name in enumerate(sys.stdin.read().split()):
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    asked = number.to_bytes(2) + bytes.fromhex("01000001000000000000") + labels + bytes.fromhex("0000010001")
    began = time.perf_counter()
    sock.send(asked)
    answer = sock.recv(4096)
    print((time.perf_counter() - began) * 1000, answer[3] & 15, int.from_bytes(answer[6:8]))
"""


def samples(directory: Path, rounds: Iterable[int]) -> Iterator[Figures]:
    """For each round: a machine that joins, and what names take there. Raises ProcessFailed, KernelRefused."""
    directory.mkdir(parents=True, exist_ok=True)
    known = [
        Identity(f"host-{number}", ip_address(f"10.99.1.{number + 1}"), ip_address(f"fd00:99:1::{number + 1}"))
        for number in range(KNOWN)
    ]
    with World(directory, tier="tun", label="y") as world:
        world.attach("a", "eth0", ["198.51.100.2/24"], metric=100)
        world.start_hub((HUB_V4,), extra=_INVITATIONS, identities=known)
        peer = _invited(world, "peer")
        _, daemon = _joined(world, "b", peer)
        with daemon:
            for number in rounds:
                print(f"household, round {number + 1}: a machine joins, and asks for names", flush=True)
                line = _invited(world, f"node-{number}")
                figures, joined = _joined(world, "a", line)
                with joined:
                    yield figures | _names(world, known)


def _invited(world: World, name: str) -> str:
    """The line of a new invitation."""
    hub = world.directory / "hub"
    world.wait((hub / "lisphub.sock").exists, "the hub answers commands", PATIENCE_S)
    command = module(LISPHUB, "-c", str(hub / "hub.conf"), "invite", name, "--json")
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode != 0:
        raise ProcessFailed(f"lisphub invite {name}: {done.stderr.decode(errors='replace')}")
    return str(json.loads(done.stdout)["line"])


def _joined(world: World, at: str, line: str) -> tuple[Figures, Daemon]:
    """Join, start lispd, and wait until the node works; returns the times and the daemon."""
    directory = world.directory / f"{at}-joined"
    shutil.rmtree(directory, ignore_errors=True)
    (directory / "state").mkdir(parents=True)
    config, socket = directory / "lispd.conf", directory / "lispd.sock"
    named = ("--socket", str(socket), "--config", str(config))
    began = time.monotonic()
    command = world[at].argv(*module(LISPCTL, "join", line, *named, "--no-service"))
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode != 0:
        raise ProcessFailed(f"lispctl join: {done.stderr.decode(errors='replace')}")
    written = time.monotonic()
    with config.open("a") as file:
        file.write(f"state-dir: {directory}/state\ndbus: no\ndatapath: {{tier: {world.tier}}}\n")
    daemon = Daemon(f"lispd {at}", world[at], module("lispmob", "-c", str(config)), directory / "lispd.log")
    while not _works(socket):
        daemon.check()
        if time.monotonic() > began + PATIENCE_S:
            daemon.stop()
            raise ProcessFailed(f"{at} does not work after {PATIENCE_S:g} s\n{daemon.log_tail()}")
        time.sleep(_LOOK_S)
    return {
        "join-command": ((written - began) * 1000, "ms"),
        "join-to-working": ((time.monotonic() - began) * 1000, "ms"),
    }, daemon


def _works(socket: Path) -> bool:
    """The condition that `lispctl join` waits for."""
    try:
        with Client(str(socket)) as client:
            status = client.call("status")
    except LispError:
        return False
    return bool(status["state"] == "registered" and status["verdict"] == "working")


def _names(world: World, known: list[Identity]) -> Figures:
    """Resolve names that the node has to ask the hub for, one after the other; then one of them repeatedly."""
    names = [f"{identity.name}.{DOMAIN}" for identity in known]
    asked = _asked(world, names)
    cached = _asked(world, names[:1] * CACHED)
    return {
        "name-asked": (statistics.median(asked), "ms"),
        "name-asked-most": (max(asked), "ms"),
        "name-cached": (statistics.median(cached), "ms"),
        "name-cached-99": (sorted(cached)[len(cached) * 99 // 100], "ms"),
    }


def _asked(world: World, names: list[str]) -> list[float]:
    with Client(str(world.directory / "a-joined" / "lispd.sock")) as client:
        at = client.call("names")
    server = next(str(address) for address in at["addresses"] if "." in str(address))
    command = world["a"].argv(sys.executable, "-c", ASKER, server, str(at["port"]))
    done = subprocess.run(command, input="\n".join(names), capture_output=True, text=True, check=False)
    lines = [line.split() for line in done.stdout.splitlines()]
    wrong = [(name, *line[1:]) for name, line in zip(names, lines, strict=False) if line[1:] != ["0", "1"]]
    if wrong or len(lines) != len(names):
        told = f"{len(lines)} answers to {len(names)} names, {len(wrong)} without an address: {wrong[:1]}"
        raise ProcessFailed(f"{told} {done.stderr}")
    return [float(line[0]) for line in lines]
