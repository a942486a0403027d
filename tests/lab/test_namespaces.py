"""Namespaces: made, entered, deleted, also after a crash."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lispmob.errors import KernelRefused
from lispmob.lab import namespace as netns
from lispmob.lab.namespace import Namespace, NamespaceSet

pytestmark = pytest.mark.netns


def test_a_socket_made_in_a_namespace_stays_there(namespace: Namespace) -> None:
    with namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as inside:
        inside.bind(("127.0.0.1", 40_000))

        # The same port is free in our namespace: the other socket is in another one.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outside:
            outside.bind(("127.0.0.1", 40_000))


def test_entering_a_namespace_ends_with_the_block(namespace: Namespace) -> None:
    home = os.stat("/proc/thread-self/ns/net").st_ino

    def fail_inside() -> None:
        with namespace.entered():
            assert os.stat("/proc/thread-self/ns/net").st_ino != home
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail_inside()

    assert os.stat("/proc/thread-self/ns/net").st_ino == home


def test_a_namespace_is_deleted_although_a_process_runs_in_it() -> None:
    with NamespaceSet() as made:
        sleeper = subprocess.Popen(made.make("busy").argv("sleep", "60"))
        name = made["busy"].name
        # `ip` takes a moment to become the sleeping process.
        for _ in range(100):
            if sleeper.pid in made["busy"].pids():
                break
            time.sleep(0.01)

    assert sleeper.wait(5) == -signal.SIGKILL
    assert not Path("/run/netns", name).exists()


def test_namespaces_are_deleted_when_the_block_fails() -> None:
    def fail_midway() -> None:
        with NamespaceSet() as made:
            made.make("one")
            made.make("two")
            raise RuntimeError("midway")

    with pytest.raises(RuntimeError, match="midway"):
        fail_midway()

    assert netns.ours() == []


def test_what_a_killed_laboratory_left_is_swept_by_the_next() -> None:
    script = (
        "import os, signal\n"
        "from lispmob.lab.namespace import Namespace\n"
        "print(Namespace('left').name, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=False)
    name = killed.stdout.strip()
    assert Path("/run/netns", name).exists()

    assert name in netns.sweep()

    assert not Path("/run/netns", name).exists()


def test_a_failed_command_names_the_namespace_and_the_complaint(namespace: Namespace) -> None:
    with pytest.raises(KernelRefused, match=r"test: `ip link show nosuch` failed: .*nosuch"):
        namespace.run("ip", "link", "show", "nosuch")


def test_a_sysctl_changes_the_namespace_and_not_the_host(namespace: Namespace) -> None:
    before = Path("/proc/sys/net/ipv4/ip_default_ttl").read_text()

    namespace.sysctl("ipv4/ip_default_ttl", "17")

    assert namespace.run("cat", "/proc/sys/net/ipv4/ip_default_ttl").strip() == "17"
    assert Path("/proc/sys/net/ipv4/ip_default_ttl").read_text() == before
