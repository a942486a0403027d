"""lispd that cannot start: a sentence with the reason and the remedy, an exit code, and no change to the host."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from lispmob.lab.namespace import Namespace
from tests.lispd.running.world import A, NodeText, network_listing, wait_for
from tests.open_directories import let_everybody_in

pytestmark = pytest.mark.netns

LISPD = (sys.executable, "-m", "lispmob")
SERVER = "198.51.100.10"
_TIMESTAMP = re.compile(r"^\d\d:\d\d:\d\d\.\d+ \w+ +")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a start ended."""

    code: int
    complaints: list[str]

    @property
    def only(self) -> str:
        """The one sentence. AssertionError when there are more, or none."""
        assert len(self.complaints) == 1, self.complaints
        return self.complaints[0]


class Host:
    """A host with one interface, its configuration, and lispd that is expected to refuse."""

    def __init__(self, namespace: Namespace, directory: Path) -> None:
        self.namespace = namespace
        self.text = NodeText(A, directory, [SERVER])
        self.path = directory / "lispd.conf"
        namespace.run("ip", "address", "add", "198.18.1.10/24", "dev", "lo")

    def write(self) -> None:
        """Write the configuration, readable for root only."""
        self.path.touch(mode=0o600)
        self.path.write_text(str(self.text))

    def start(self, *prefix: str, write: bool = True) -> Ended:
        """Start lispd after `prefix`, a command that changes its environment; it must end, and leave nothing behind."""
        if write:
            self.write()
        before = network_listing(self.namespace)
        done = subprocess.run(
            self.namespace.argv(*prefix, *LISPD, "-c", str(self.path)),
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert network_listing(self.namespace) == before
        assert "Traceback" not in done.stderr, done.stderr
        lines = done.stderr.splitlines()
        quiet = [line for line in lines if " INFO " not in line]
        return Ended(done.returncode, [_TIMESTAMP.sub("", line) for line in quiet])


@pytest.fixture
def host(namespace: Namespace, tmp_path: Path) -> Host:
    return Host(namespace, tmp_path)


@pytest.fixture
def open_host(host: Host) -> Host:
    """A host whose configuration an ordinary user can read, as one with a key-file would be."""
    let_everybody_in(host.path.parent)
    return host


@pytest.mark.ordinary_user
def test_without_root_it_is_exit_code_77_and_the_missing_capability_is_named(open_host: Host) -> None:
    open_host.path.write_text(str(open_host.text))
    open_host.path.chmod(0o600)
    os.chown(open_host.path, 65534, 65534)
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")

    ended = open_host.start(*nobody, write=False)

    assert ended.code == 77, ended
    assert "CAP_NET_ADMIN" in ended.only
    assert "root" in ended.only


def test_without_the_tun_driver_it_is_exit_code_77_and_the_remedy_is_named(host: Host) -> None:
    hide = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /dev/net && exec "$0" "$@"')

    ended = host.start(*hide)

    assert ended.code == 77
    assert ended.only.startswith("/dev/net/tun: open refused (ENOENT)")
    assert "modprobe tun" in ended.only


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "the file is empty"),
        ("eids: [10.1.0.1/32", ":"),
        ("eids: [10.1.0.1/32]\nmap-servers: [{address: 198.51.100.1, key: k}]\nuplinks: [{name: x, priority: 300}]",
         ":3:31: uplinks[0].priority: 300 is not 0 to 255"),
        ("eids: [10.1.0.1/33]\nmap-servers: [{address: 198.51.100.1, key: k}]", ":1:8: eids[0]: "),
    ],
    ids=["empty", "unclosed", "out of range", "no prefix"],
)  # fmt: skip
def test_a_wrong_configuration_is_exit_code_78_with_the_place_of_the_error(
    host: Host, text: str, complaint: str
) -> None:
    host.path.write_text(text)

    ended = host.start(write=False)

    assert ended.code == 78
    assert ended.only.startswith(f"{host.path}:")
    assert complaint in ended.only


def test_a_missing_configuration_is_exit_code_78(host: Host) -> None:
    ended = host.start(write=False)

    assert ended.code == 78
    assert ended.only == f"{host.path}: cannot read the file: No such file or directory"


@pytest.mark.ordinary_user
def test_a_configuration_that_may_not_be_read_is_exit_code_78(open_host: Host) -> None:
    open_host.path.write_text(str(open_host.text))
    open_host.path.chmod(0o600)

    ended = open_host.start("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", write=False)

    assert ended.code == 78
    why = "Permission denied; it holds keys: read it as root, with sudo"
    assert ended.only == f"{open_host.path}: cannot read the file: {why}"


@pytest.mark.parametrize("port", [4341, 4342], ids=["data", "control"])
@pytest.mark.parametrize("address", ["0.0.0.0", "::"], ids=["v4", "v6"])
def test_a_taken_port_is_exit_code_1_and_named_with_a_way_to_find_who_has_it(
    host: Host, port: int, address: str
) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with host.namespace.socket(family, socket.SOCK_DGRAM) as taken:
        if family == socket.AF_INET6:
            taken.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        taken.bind((address, port))

        ended = host.start()

    assert ended.code == 1, ended
    assert f"UDP port {port}" in ended.only
    assert "in use" in ended.only
    assert f"ss -lunp 'sport = :{port}'" in ended.only


def test_a_control_socket_that_cannot_be_made_is_exit_code_1_and_named(host: Host) -> None:
    (host.text.directory / "lispd.sock").write_text("a file")

    ended = host.start()

    assert ended.code == 1
    assert ended.only.startswith(f"{host.text.directory}/lispd.sock: something that is no socket stands here")


def test_a_device_name_that_is_taken_is_said(host: Host) -> None:
    host.namespace.run("ip", "link", "add", "lmn0", "type", "bridge")

    ended = host.start()

    assert ended.code == 77
    assert "lmn0" in ended.only


def test_without_a_tool_that_nothing_needs_and_without_a_state_directory_it_runs_and_says_what_is_lost(
    host: Host, tmp_path: Path
) -> None:
    host.text.keys["state-dir"] = "/proc/nothing"
    host.write()
    said = tmp_path / "said"
    with said.open("w") as log:
        process = subprocess.Popen(
            host.namespace.argv("env", f"PATH={tmp_path / 'nowhere'}", *LISPD, "-c", str(host.path)),
            stderr=log,
            stdin=subprocess.DEVNULL,
        )
    try:
        wait_for(lambda: has_address(host.namespace, "10.1.0.1/32"), "a working node")
        wait_for(lambda: "/proc/nothing" in said.read_text(), "a word about the state directory")
    finally:
        process.terminate()
        process.wait(timeout=10)

    text = said.read_text()
    assert process.returncode == 0, text
    warnings = [line for line in text.splitlines() if "WARNING" in line and "there is no uplink" not in line]
    assert len(warnings) == 1, text
    assert "cannot keep the xTR-ID in /proc/nothing" in warnings[0]


def test_a_device_that_another_program_takes_away_ends_lispd_so_that_it_is_started_again(
    host: Host, tmp_path: Path
) -> None:
    host.write()
    said = tmp_path / "said"
    with said.open("w") as log:
        process = subprocess.Popen(
            host.namespace.argv(*LISPD, "-c", str(host.path)), stderr=log, stdin=subprocess.DEVNULL
        )
    try:
        wait_for(lambda: has_address(host.namespace, "10.1.0.1/32"), "a working node")
        wait_for(lambda: (host.text.directory / "lispd.sock").exists(), "the control socket")
        host.namespace.run("ip", "link", "del", "lmn0")
        code = process.wait(timeout=10)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(timeout=10)

    assert code == 1  # systemd starts it again after that
    assert "lmn0 is gone: another program removed or renamed it" in said.read_text()


def has_address(namespace: Namespace, address: str) -> bool:
    return address in namespace.run("ip", "address", "show")
