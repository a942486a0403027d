"""When a TUN device cannot be opened, the error says why, and what to do."""

from __future__ import annotations

import os
import socket
import sys

import pytest

from lispmob.datapath.device.tun import open_tun
from lispmob.lab.namespace import Namespace


def test_an_impossible_name_is_refused_before_the_kernel_is_asked() -> None:
    with pytest.raises(ValueError, match="1 to 15 octets"):
        open_tun("a-name-that-is-too-long", 1440)


def told_when(namespace: Namespace, setup: str, name: str) -> str:
    """The error of open_tun in a fresh network namespace after `setup`."""
    program = (
        "from lispmob.datapath.device.tun import open_tun\nfrom lispmob.errors import KernelRefused\n"
        f"try: print(open_tun({name!r}, 1400))\nexcept KernelRefused as error: print(error)"
    )
    return namespace.run("sh", "-c", f'{setup}; exec "$0" -c "$1"', sys.executable, program, timeout_s=20)


@pytest.mark.netns
def test_a_device_is_made_and_numbered(namespace: Namespace) -> None:
    assert told_when(namespace, "true", "lmt0").startswith("Tun(fd=")


@pytest.mark.netns
def test_an_interface_of_another_kind_under_the_name_is_named_as_the_cause(namespace: Namespace) -> None:
    assert "no TUN device of this kind" in told_when(namespace, "ip link add lmt0 type bridge", "lmt0")


@pytest.mark.netns
def test_an_impossible_mtu_names_the_device_and_the_request() -> None:
    name = f"lmt{os.getpid() % 100000}"

    with pytest.raises(Exception, match=f"{name}: SIOCSIFMTU refused"):
        open_tun(name, 20)

    assert name not in [each for _, each in socket.if_nameindex()]
