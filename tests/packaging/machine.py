"""A clean Debian: bootstrapped once, layered anew for each test, and booted with systemd in namespaces of its own.

It has its own mounts, processes and control groups, and the network namespace that it is given; nothing of it outlives
the `with` block.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from lispmob.lab.namespace import Namespace, why_unavailable
from tests.desktop.private_bus import wait_for

ROOT: Final = Path(__file__).resolve().parents[2]
BASE: Final = ROOT / "build" / "package-test" / "bookworm"
"""Kept between runs: a minute of downloads. `make clean` removes it."""
PACKAGES: Final = "python3,systemd,systemd-sysv,dbus,iptables,iproute2,libglib2.0-bin"
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
    """What is missing, with the remedy."""
    if reason := why_unavailable():
        return reason
    for tool, package in (("debootstrap", "debootstrap"), ("unshare", "util-linux"), ("dpkg-buildpackage", "dpkg-dev")):
        if shutil.which(tool) is None:
            return f"{tool} is missing: install the Debian package {package}"
    if not (CGROUPS / "cgroup.procs").exists():
        return "there is no cgroup2 hierarchy to boot systemd in"
    return None


def bootstrap() -> Path:
    """The clean root; made when there is none yet."""
    if not (BASE / "complete").exists():
        shutil.rmtree(BASE, ignore_errors=True)
        BASE.parent.mkdir(parents=True, exist_ok=True)
        command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(BASE)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
        assert done.returncode == 0, done.stdout[-2000:]
        (BASE / "complete").touch()
    return BASE


class Machine:
    """One booted Debian."""

    def __init__(self, namespace: Namespace, directory: Path) -> None:
        self.namespace = namespace
        self._cgroup = CGROUPS / f"lispmob-test-{os.getpid()}"
        self._log = directory / "boot.log"
        work = directory / "machine"
        work.mkdir()
        script = directory / "boot.sh"
        script.write_text(_BOOT.format(work=work, base=bootstrap()), encoding="ascii")
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
        """The pid, as seen from here, of its first process."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        with contextlib.suppress(OSError, ValueError, IndexError):
            pid = int(children.read_text("ascii").split()[0])
            if Path(f"/proc/{pid}/comm").read_text("ascii").strip() == "systemd":
                return pid
        return None

    def sh(self, script: str, *, must: bool = True, timeout_s: float = 120.0) -> str:
        """Run a shell script in it; what it prints. Fails with its complaints."""
        command = ["nsenter", "--all", f"--target={self._init()}", f"--root=/proc/{self._init()}/root", "--wdns=/"]
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
        done = subprocess.run(
            [*command, "/bin/sh", "-ec", script],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert not must or done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout

    def put(self, path: str, text: str | bytes) -> None:
        """Write a file in it; its owner and mode stay when it is there already."""
        octets = text.encode() if isinstance(text, str) else text
        Path(f"/proc/{self._init()}/root/{path.lstrip('/')}").write_bytes(octets)

    def files(self) -> set[str]:
        """Every file that is on its disk."""
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
def machine(namespace: Namespace, directory: Path) -> Iterator[Machine]:
    """A booted Debian in that network namespace."""
    one = Machine(namespace, directory)
    try:
        yield one
    finally:
        one.close()


_BOOTED: Final = ("running", "degraded")  # degraded: a machine without hardware has services that find none
_NOT_OURS: Final = ("/var/log/", "/var/cache/", "/var/lib/apt/", "/var/lib/dpkg/", "/var/lib/systemd/", "/root/")
