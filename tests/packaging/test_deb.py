"""The Debian package in a clean Debian with a real systemd: installed, configured, started, stopped, purged."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from lispmob.lab.namespace import Namespace, NamespaceSet
from lispmob.lab.process import Daemon, module
from lispmob.wire.address import EidPrefix
from lispmob.wire.auth import Key
from lispmob.wire.map_notify import MapNotify
from tests.desktop.private_bus import wait_for
from tests.hub.exchange import Xtr
from tests.packaging.machine import ROOT, Machine, connect, machine, why_no_machine

pytestmark = [
    pytest.mark.package,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(why_no_machine() is not None, reason=why_no_machine() or ""),
]

EID = "10.1.0.1"
KEY = "a key between the two of them"
CAPABILITIES = {"lispd": 1 << 10 | 1 << 12 | 1 << 38 | 1 << 39, "lisphub": 1 << 12 | 1 << 38 | 1 << 39}
"""CAP_NET_ADMIN, CAP_BPF; CAP_PERFMON for the programs of the ebpf tier, CAP_NET_BIND_SERVICE for port 53 of names."""

NODE = f"""eids: [{EID}/32]
map-servers:
  - {{address: 198.51.100.1, key: {KEY}}}
routing: {{overlay-prefixes: [10.1.0.0/16]}}
"""
HUB = f"""sites:
  - {{name: laptop, eids: [{EID}/32], key: {KEY}}}
"""


@pytest.fixture
def ends() -> Iterator[tuple[Namespace, Namespace]]:
    """Where the hub is, at 198.51.100.1, and where the laptop is, one hop from it."""
    with NamespaceSet() as namespaces:
        hub, home = namespaces.make("hub"), namespaces.make("laptop")
        connect(hub, home)
        yield hub, home


@pytest.fixture
def laptop(package: Path, tmp_path: Path, ends: tuple[Namespace, Namespace]) -> Iterator[Machine]:
    """A clean machine with the package at /root/lispmob.deb, and a hub that runs."""
    hub, home = ends
    own = f"state-file: none\ncontrol-socket: {tmp_path}/lisphub.sock\n"
    (tmp_path / "hub.conf").write_text(HUB + own, encoding="ascii")
    (tmp_path / "hub.conf").chmod(0o600)
    serving = module("lispmob.hub.daemon", "-c", str(tmp_path / "hub.conf"))
    with Daemon("hub", hub, serving, tmp_path / "hub.log"), machine(home, tmp_path) as one:
        one.put("/root/lispmob.deb", package.read_bytes())
        yield one


def install(laptop: Machine) -> None:
    laptop.sh("apt-get install -y --no-install-recommends /root/lispmob.deb")


def is_registered(laptop: Machine) -> bool:
    shown = laptop.sh("lispctl --json status", must=False)
    return bool(shown) and json.loads(shown)["state"] == "registered"


def network(laptop: Machine) -> str:
    """Rules, routes and links, without the kernel's own."""
    routes = "ip rule; ip -6 rule; ip route show table all | grep -v -e fe80: -e ff00:; ip -o link | cut -d' ' -f2"
    return laptop.sh(f"{routes}; iptables-save | grep -v '^[#:*C]' || true")


def sysctls(laptop: Machine) -> list[str]:
    """The settings of the network, without those of our own device."""
    found = laptop.sh("grep -rs '' /proc/sys/net/core /proc/sys/net/ipv4 /proc/sys/net/ipv6", must=False)
    return sorted(line for line in found.splitlines() if "/lmn0/" not in line)


def test_it_installs_starts_once_it_is_configured_and_leaves_nothing_when_purged(
    laptop: Machine, tmp_path: Path
) -> None:
    files, before, settings = laptop.files(), network(laptop), sysctls(laptop)
    assert len(settings) > 100

    install(laptop)
    assert laptop.sh("systemctl is-enabled lispd").strip() == "enabled"
    assert laptop.sh("systemctl is-active lispd", must=False).strip() == "inactive", "the example's key starts nothing"
    assert laptop.sh("stat -c '%a %G' /etc/lispmob/lispd.conf").split() == ["640", "lispmob"]
    laptop.put("/etc/lispmob/lispd.conf", NODE)
    laptop.sh("lispd --check && systemctl start lispd")
    wait_for(lambda: is_registered(laptop), "lispd is registered")
    assert EID in laptop.sh("ip addr show lmn0")
    assert sysctls(laptop) == settings
    laptop.sh("systemctl stop lispd")
    assert network(laptop) == before
    assert f"withdrawn eid={EID}/32" in (tmp_path / "hub.log").read_text()

    laptop.sh("apt-get purge -y lispmob")
    assert sorted(laptop.files() - files) == []
    assert network(laptop) == before
    assert (
        laptop.sh("getent passwd lispmob; getent group lispmob; systemctl --failed --plain --no-legend", must=False)
        == ""
    )


def test_an_upgrade_keeps_the_configuration_and_restarts_what_runs(laptop: Machine) -> None:
    files, before = laptop.files(), network(laptop)
    install(laptop)
    laptop.put("/etc/lispmob/lispd.conf", NODE)
    laptop.sh("systemctl start lispd")
    wait_for(lambda: is_registered(laptop), "lispd is registered")
    old = _main_pid(laptop)
    laptop.sh(
        "cd /root && dpkg-deb -R lispmob.deb next && sed -i 's/^Version: .*/Version: 99/' next/DEBIAN/control "
        "&& dpkg-deb --root-owner-group -b next next.deb && rm -r next"
    )

    laptop.sh("apt-get install -y --no-install-recommends /root/next.deb")

    assert laptop.sh("dpkg-query -W -f '${Version}' lispmob") == "99"
    assert laptop.sh("cat /etc/lispmob/lispd.conf") == NODE
    assert laptop.sh("stat -c '%a %G' /etc/lispmob /etc/lispmob/lispd.conf").split() == [
        "750",
        "lispmob",
        "640",
        "lispmob",
    ]
    assert laptop.sh("systemctl is-enabled lispd").strip() == "enabled"
    wait_for(lambda: is_registered(laptop), "lispd is registered again")
    assert _main_pid(laptop) not in (old, "0")
    assert network(laptop).count(EID) > 0
    laptop.sh("apt-get purge -y lispmob")
    assert sorted(laptop.files() - files) == []
    assert network(laptop) == before


def process_of(laptop: Machine, service: str) -> dict[str, str]:
    """The fields of /proc/<pid>/status."""
    status = laptop.sh(f"cat /proc/$(systemctl show --value -p MainPID {service})/status")
    return dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)


def assert_confined(laptop: Machine, service: str) -> None:
    found = process_of(laptop, service)
    user = laptop.sh("id -u lispmob").strip()
    assert found["Uid"].split() == [user] * 4
    assert [int(found[key], 16) for key in ("CapEff", "CapPrm", "CapAmb", "CapBnd")] == [CAPABILITIES[service]] * 4
    assert (found["NoNewPrivs"].strip(), found["Seccomp"].strip()) == ("1", "2")
    assert laptop.sh(f"systemctl show --value -p MemoryDenyWriteExecute {service}").strip() == "yes"


def test_the_service_runs_as_its_own_user_with_three_capabilities_and_has_the_kernel_move_the_packets(
    laptop: Machine,
) -> None:
    install(laptop)
    laptop.put("/etc/lispmob/lispd.conf", NODE)
    laptop.sh("systemctl start lispd")
    wait_for(lambda: is_registered(laptop), "lispd is registered")

    assert_confined(laptop, "lispd")
    wait_for(lambda: "Datapath   ebpf: " in laptop.sh("lispctl status"), "the kernel moves the packets")
    # With bpf(2) allowed there is one queue for each lane: the default's, the unusable marks', and w0's.
    queues = laptop.sh("ls -l /proc/$(systemctl show --value -p MainPID lispd)/fd | grep -c net/tun")
    assert int(queues) == 3


def test_without_the_capabilities_for_programs_it_does_what_it_can_and_says_why(laptop: Machine) -> None:
    install(laptop)
    laptop.put("/etc/lispmob/lispd.conf", NODE)
    page = (ROOT / "packaging" / "README.md").read_text("utf-8")
    (drop_in,) = [block for block in page.split("```") if block.startswith("\n[Service]\n")]
    laptop.sh("mkdir -p /etc/systemd/system/lispd.service.d")
    laptop.put("/etc/systemd/system/lispd.service.d/override.conf", drop_in)
    laptop.sh("systemctl daemon-reload && systemctl start lispd")
    wait_for(lambda: is_registered(laptop), "lispd is registered")

    assert int(process_of(laptop, "lispd")["CapEff"], 16) == 1 << 12
    wait_for(lambda: "CAP_BPF" in laptop.sh("lispctl status"), "it says what the ebpf tier would need")
    assert "Datapath   tun: " in laptop.sh("lispctl status")


def test_the_hub_of_the_package_is_started_only_by_the_user_and_is_confined_like_the_node(
    laptop: Machine,
) -> None:
    install(laptop)
    assert laptop.sh("systemctl is-enabled lisphub", must=False).strip() == "disabled"
    laptop.put("/etc/lispmob/hub.conf", f"listen: [198.51.100.23]\n{HUB}")
    laptop.sh("chgrp lispmob /etc/lispmob/hub.conf && chmod 640 /etc/lispmob/hub.conf && systemctl start lisphub")

    assert_confined(laptop, "lisphub")
    assert "198.51.100.23:4342" in laptop.sh("ss -Huln")
    laptop.sh("systemctl reload lisphub && systemctl stop lisphub")
    assert laptop.sh("systemctl show --value -p Result lisphub").strip() == "success"


SENDING = """
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as node:
    node.settimeout(10)
    node.sendto(bytes.fromhex("{payload}"), ("198.51.100.23", 4342))
    print(node.recv(2048).hex())
"""


def test_the_hub_of_the_package_keeps_what_is_registered_in_a_redis_server(
    laptop: Machine, ends: tuple[Namespace, Namespace]
) -> None:
    install(laptop)
    laptop.sh_outside("apt-get update && apt-get install -y --no-install-recommends redis-server")
    # Not its own unit: that wants a device tree and namespaces that this machine has none of.
    laptop.sh("mkdir /var/lib/shared && systemd-run -p WorkingDirectory=/var/lib/shared redis-server --appendonly yes")
    wait_for(lambda: "PONG" in laptop.sh("redis-cli ping", must=False), "the server answers", 20.0)
    shared = "registry: {valkey: [127.0.0.1:6379]}\nstate-file: none\n"
    laptop.put("/etc/lispmob/hub.conf", f"listen: [198.51.100.23]\n{shared}{HUB}")
    laptop.sh("chgrp lispmob /etc/lispmob/hub.conf && chmod 640 /etc/lispmob/hub.conf && systemctl start lisphub")
    node = Xtr(ip_address("198.51.100.1"), Key(KEY.encode()))

    payload = node.register(f"{EID}/32", rlocs=["203.0.113.5"]).payload
    notify = ends[0].run(sys.executable, "-c", SENDING.format(payload=payload.hex())).strip()
    assert MapNotify.decode(bytes.fromhex(notify)).records[0].eid_prefix == EidPrefix.parse(f"{EID}/32")
    assert laptop.sh("redis-cli dbsize").strip() != "0"
    laptop.sh("systemctl restart lisphub")

    wait_for(lambda: "203.0.113.5" in laptop.sh("lisphub nodes", must=False), "the other process knows the node", 20.0)


def test_the_journal_has_levels_and_a_reload_says_what_is_wrong(laptop: Machine) -> None:
    install(laptop)
    laptop.put("/etc/lispmob/lispd.conf", NODE)
    laptop.sh("systemctl start lispd")
    wait_for(lambda: is_registered(laptop), "lispd is registered")

    laptop.sh("systemctl reload lispd")
    laptop.put("/etc/lispmob/lispd.conf", NODE + "nonsense: 1\n")
    failed = laptop.sh(
        "systemctl reload lispd 2>&1 && echo accepted; journalctl -u lispd -o cat | grep nonsense", must=False
    )
    levels = laptop.sh("journalctl -u lispd -o json --output-fields=PRIORITY,MESSAGE")

    assert "accepted" not in failed
    assert "nonsense" in failed
    assert is_registered(laptop), "the old configuration stays in use"
    assert any(json.loads(line)["PRIORITY"] == "6" for line in levels.splitlines())


def test_a_daemon_that_hangs_is_restarted_and_one_that_is_killed_comes_back(laptop: Machine) -> None:
    install(laptop)
    laptop.put("/etc/lispmob/lispd.conf", NODE)
    laptop.sh("mkdir -p /run/systemd/system/lispd.service.d")
    laptop.put("/run/systemd/system/lispd.service.d/test.conf", "[Service]\nWatchdogSec=2\n")
    laptop.sh("systemctl daemon-reload && systemctl start lispd")
    for signal in ("STOP", "KILL"):
        wait_for(lambda: is_registered(laptop), "lispd is registered", 30)
        before = laptop.sh("systemctl show --value -p MainPID lispd").strip()
        laptop.sh(f"kill -{signal} {before}")
        wait_for(lambda old=before: _main_pid(laptop) not in (old, "0"), f"another process after {signal}", 30)  # type: ignore[misc]
    wait_for(lambda: is_registered(laptop), "lispd is registered again", 30)


def _main_pid(laptop: Machine) -> str:
    return laptop.sh("systemctl show --value -p MainPID lispd").strip()


@pytest.mark.skipif(shutil.which("lintian") is None, reason="lintian is missing: install the Debian package lintian")
def test_lintian_finds_neither_errors_nor_warnings(package: Path) -> None:
    command = ["lintian", "--fail-on", "error,warning", "--allow-root", str(package)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)

    assert (done.returncode, done.stdout) == (0, "")


def test_it_brings_man_pages_and_completions(laptop: Machine) -> None:
    install(laptop)

    files = set(laptop.sh("dpkg -L lispmob").splitlines())
    commands = ("lispctl", "lispflow", "lig", "lisp-echo")
    pages = ("man8/lispd.8", "man8/lisphub.8", "man5/lispd.conf.5", *(f"man1/{command}.1" for command in commands))
    assert {f"/usr/share/man/{page}.gz" for page in pages} <= files
    for command in commands:
        completion = f"/usr/share/bash-completion/completions/{command}"
        assert {completion, f"/usr/share/zsh/vendor-completions/_{command}"} <= files
        assert laptop.sh(f"bash -c '. {completion}; complete -p {command}'").startswith("complete ")
        assert laptop.sh(f"{command} --help").startswith(f"usage: {command}")


def test_the_units_are_verified_and_their_exposure_is_2_at_most(laptop: Machine) -> None:
    install(laptop)

    for unit in ("lispd.service", "lisphub.service"):
        complaints = laptop.sh(f"systemd-analyze verify --man=no {unit} 2>&1", must=False)
        shown = laptop.sh(f"systemd-analyze security --offline=yes --threshold=20 {unit} 2>&1 | tail -1", must=False)
        assert complaints == ""
        assert float(shown.split(":")[1].split()[0]) <= 2.0
