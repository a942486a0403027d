"""A clean Debian: bootstrapped once, with a new layer for each test, and booted with systemd in namespaces of its own.

It has its own mounts, processes and control groups, and the network namespace that it is given; nothing of it is left
after the `with` block. `sh_outside` fetches from the Internet by the host's network: the machine's own stays closed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from lispmob.lab.namespace import Namespace, why_unavailable
from tests.desktop.private_bus import wait_for

ROOT: Final = Path(__file__).resolve().parents[2]
BASES: Final = ROOT / "build" / "package-test"
"""Kept between runs: a minute of downloads each. `make clean` removes them."""
ARCHIVE: Final = ROOT / "build" / "archive"
"""What debootstrap downloaded, by suite; packaging/build_debs.sh uses it too."""
PACKAGES: Final = {
    # What a user has after the installation of Debian 12, and not one program more.
    "bare": "systemd-sysv,dbus,sudo,ca-certificates",
    # What the package depends on, so that it installs without a network.
    "bookworm": "python3,systemd,systemd-sysv,dbus,iptables,iproute2,libglib2.0-bin",
    "desktop": "python3,systemd,systemd-sysv,dbus,iptables,iproute2,libglib2.0-bin",
    # What is on a machine that users reach by ssh, and what the package depends on, as above.
    "household-bookworm": "python3,systemd,systemd-sysv,dbus,iptables,iproute2,openssh-server,openssh-client",
    "household-trixie": "python3,systemd,systemd-sysv,dbus,iptables,iproute2,openssh-server,openssh-client",
    "household-noble": "python3,systemd,systemd-sysv,dbus,iptables,iproute2,openssh-server,openssh-client",
}
UBUNTU_KEYS: Final = Path(os.environ.get("KEYRING", "/usr/share/keyrings/ubuntu-archive-keyring.gpg"))
"""Debian has no package of it."""
MORE: Final = {
    # Everything that changes networks. apt installs it afterwards: debootstrap gets the order wrong.
    "desktop": "network-manager polkitd firewalld ufw nftables iputils-ping",
}
CGROUPS: Final = Path("/sys/fs/cgroup/unified") if Path("/sys/fs/cgroup/unified").is_dir() else Path("/sys/fs/cgroup")

# Runs as the first process of the new namespaces, until it becomes systemd.
_BOOT: Final = """set -e
mount --make-rprivate /
mount -t tmpfs none {work}
mkdir {work}/upper {work}/work {work}/root
mount -t overlay overlay -o lowerdir={base},upperdir={work}/upper,workdir={work}/work {work}/root
cd {work}/root
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 none dev
for node in null zero full random urandom tty; do touch dev/$node; mount --bind /dev/$node dev/$node; done
mkdir dev/net dev/pts dev/shm
touch dev/net/tun; mount --bind /dev/net/tun dev/net/tun
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx; ln -s /proc/self/fd dev/fd
mount -t tmpfs -o mode=755 none run
mount -t tmpfs none tmp
exec env -i container=lispmob-test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
  chroot . /lib/systemd/systemd --system --log-target=console --show-status=no
"""


def why_no_machine() -> str | None:
    """What is missing, with the remedy; None: nothing."""
    if reason := why_unavailable():
        return reason
    for tool, package in (("debootstrap", "debootstrap"), ("unshare", "util-linux"), ("dpkg-buildpackage", "dpkg-dev")):
        if shutil.which(tool) is None:
            return f"{tool} is missing: install the Debian package {package}"
    if not (CGROUPS / "cgroup.procs").exists():
        return "there is no cgroup2 hierarchy to boot systemd in"
    return None


def architecture() -> str:
    """Debian's name for this machine's architecture: amd64, arm64, ..."""
    return subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, check=True).stdout.strip()


@contextlib.contextmanager
def made_once(tmp_path_factory: pytest.TempPathFactory, name: str) -> Iterator[Path]:
    """A directory that all processes of this run of the tests share; only one at a time is inside of the block."""
    base = tmp_path_factory.getbasetemp()
    directory = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    directory.mkdir(exist_ok=True)
    with (base.parent / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield directory


def bootstrap(kind: str) -> Path:
    """The clean root with these packages; made if there is none yet."""
    base = BASES / kind
    BASES.mkdir(parents=True, exist_ok=True)
    with (BASES / f"{kind}.lock").open("w") as lock:  # tests of several processes may need it at the same time
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (base / "complete").exists():
            _bootstrap(kind, base)
    return base


def _bootstrap(kind: str, base: Path) -> None:
    shutil.rmtree(base, ignore_errors=True)
    suite = next((name for name in ("noble", "trixie") if kind.endswith(name)), "bookworm")
    (ARCHIVE / suite).mkdir(parents=True, exist_ok=True)
    command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES[kind]}", f"--cache-dir={ARCHIVE / suite}"]
    if suite == "noble":
        of_all = "/usr/share/debootstrap/scripts/gutsy"  # Debian 12's has no script of the suite's name
        command += [f"--keyring={UBUNTU_KEYS}", suite, str(base), "http://archive.ubuntu.com/ubuntu", of_all]
    else:
        command += [suite, str(base)]
    _run_or_fail(command)
    if more := MORE.get(kind):
        # Debian starts firewalld as soon as it is installed; here a test says when.
        install = f"apt-get install -y --no-install-recommends {more}; apt-get clean; systemctl disable firewalld ufw"
        _run_or_fail(["chroot", str(base), "sh", "-ec", install])
    (base / "complete").touch()


def _run_or_fail(command: list[str]) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]


class Machine:
    """One booted Debian."""

    def __init__(self, namespace: Namespace, directory: Path, kind: str) -> None:
        self.namespace = namespace
        self._cgroup = CGROUPS / f"lispmob-test-{os.getpid()}-{namespace.name}"
        self._log = directory / "boot.log"
        work = directory / "machine"
        work.mkdir()
        script = directory / "boot.sh"
        script.write_text(_BOOT.format(work=work, base=bootstrap(kind)), encoding="ascii")
        self._cgroup.mkdir()
        # Its control group first: inside a network namespace /sys is another one.
        inside = namespace.argv(
            *("unshare", "--mount", "--pid", "--fork", "--uts", "--ipc", "--cgroup", "--kill-child", "sh", str(script))
        )
        enter = f"echo $$ >{self._cgroup}/cgroup.procs && exec {shlex.join(inside)}"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(["sh", "-c", enter], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            wait_for(lambda: self._init() is not None, "the machine has a first process")
            wait_for(lambda: self.sh("systemctl is-system-running", must=False).strip() in _BOOTED, "it boots", 60)
        except BaseException:
            self.close()
            raise

    def _init(self) -> int | None:
        """The pid, outside of the machine, of its first process."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        with contextlib.suppress(OSError, ValueError, IndexError):
            pid = int(children.read_text("ascii").split()[0])
            if Path(f"/proc/{pid}/comm").read_text("ascii").strip() == "systemd":
                return pid
        return None

    def sh(self, script: str, *, must: bool = True, timeout_s: float = 120.0) -> str:
        """Run a shell script in it, and return the output. Fails with its complaints."""
        return self._run(["--all"], script, must=must, timeout_s=timeout_s)

    def sh_outside(self, script: str, *, timeout_s: float = 600.0) -> str:
        """The same with the host's network, to fetch something; otherwise its processes belong to the machine."""
        root = Path(f"/proc/{self._init()}/root")
        for path in ("etc/resolv.conf", *(certificate.lstrip("/") for certificate in _CERTIFICATES)):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(f"/{path}", root / path)
        return self._run(["--mount", "--pid", "--uts", "--ipc", "--cgroup"], script, must=True, timeout_s=timeout_s)

    def _run(self, namespaces: list[str], script: str, *, must: bool, timeout_s: float) -> str:
        init = self._init()
        command = ["nsenter", *namespaces, f"--target={init}", f"--root=/proc/{init}/root", "--wdns=/"]
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
        done = subprocess.run(
            [*command, "/bin/sh", "-ec", script],
            env={**environment, **_OF_THE_HOST},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert not must or done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout

    @contextlib.contextmanager
    def started(self, script: str) -> Iterator[subprocess.Popen[str]]:
        """A shell script in the background, with pipes to and from it; it ends with the block at the latest."""
        init = self._init()
        inside = ["nsenter", "--all", f"--target={init}", f"--root=/proc/{init}/root", "--wdns=/", "/bin/sh", "-ec"]
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "HOME": "/root"}
        pipe = subprocess.PIPE
        with subprocess.Popen(
            [*inside, script], env=environment, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True
        ) as running:
            try:
                yield running
            finally:
                running.kill()

    def put(self, path: str, text: str | bytes) -> None:
        """Write a file in it; the owner and mode of an existing file stay."""
        octets = text.encode() if isinstance(text, str) else text
        Path(f"/proc/{self._init()}/root/{path.lstrip('/')}").write_bytes(octets)

    def files(self) -> set[str]:
        """Every file on its disk."""
        found = self.sh("find / -xdev -not -path '/proc/*' -not -path '/tmp/*'")
        return {line for line in found.splitlines() if not line.startswith(_NOT_OURS)}

    def close(self) -> None:
        """Switch it off. Idempotent."""
        if (init := self._init()) is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(init, signal.SIGKILL)
        self._process.kill()
        self._process.wait(10)
        deadline = time.monotonic() + 5
        while self._cgroup.exists() and time.monotonic() < deadline:
            for directory, _, _ in os.walk(self._cgroup, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(directory)
            time.sleep(0.05)


@contextlib.contextmanager
def machine(namespace: Namespace, directory: Path, kind: str = "bookworm") -> Iterator[Machine]:
    """A booted Debian in this network namespace; `kind` is one of PACKAGES."""
    one = Machine(namespace, directory, kind)
    try:
        yield one
    finally:
        one.close()


def connect(hub: Namespace, home: Namespace) -> None:
    """A link to the hub at the address in the shipped configuration."""
    hub.run("ip", "link", "add", "far0", "type", "veth", "peer", "name", "w0", "netns", home.name)
    hub.run("ip", "addr", "add", "198.51.100.1/24", "dev", "far0")
    hub.run("ip", "link", "set", "far0", "up")
    home.run("ip", "addr", "add", "198.51.100.23/24", "dev", "w0")
    home.run("ip", "link", "set", "w0", "up")
    home.run("ip", "route", "add", "default", "via", "198.51.100.1")


# A host may reach the package indexes through a proxy, or trust other certificates: its guest must do the same.
_OF_THE_HOST: Final = {
    name: value
    for name, value in os.environ.items()
    if name.lower() in ("http_proxy", "https_proxy", "no_proxy", "pip_cert", "pip_index_url", "ssl_cert_file")
}
_CERTIFICATES: Final = sorted({value for name, value in _OF_THE_HOST.items() if name in ("PIP_CERT", "SSL_CERT_FILE")})
_BOOTED: Final = ("running", "degraded")  # degraded: some services find no hardware
_NOT_OURS: Final = ("/var/log/", "/var/cache/", "/var/lib/apt/", "/var/lib/dpkg/", "/var/lib/systemd/", "/root/")
