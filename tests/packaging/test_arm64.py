"""The package for arm64 in a Debian for arm64, run by qemu-user: it installs, starts, and computes correctly.

`make debs ARCHES=arm64` has built it, and left the root that it was built in; DEBS says where it is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from lispmob.crypto.noise_ciphers import NoiseCiphers
from tests.packaging.machine import ROOT, why_no_machine

SUITE: Final = "bookworm"
BUILT_IN: Final = ROOT / "build" / "roots" / f"{SUITE}-arm64"
PROGRAMS: Final = ("lispd", "lisphub", "lispctl", "lispflow", "lig", "lisp-echo", "lispmob-indicator")
# Loads both C parts; what libcrypto does with the same key is compared with what it does here.
COMPUTING: Final = """
import platform, sys
sys.path.insert(0, "/usr/lib/lispmob")
from lispmob.crypto.noise_ciphers import NoiseCiphers
from lispmob.datapath import _lispdp
one, other = bytes(range(32)), bytes(range(1, 33))
ciphers = NoiseCiphers()
shared = ciphers.shared_secret(one, ciphers.public_key(other))
assert shared == ciphers.shared_secret(other, ciphers.public_key(one))
assert ciphers.open(shared, 7, b"data", ciphers.seal(shared, 7, b"data", b"plain")) == b"plain"
assert _lispdp.lib.lm_aead_is_built()
print(platform.machine(), ciphers.public_key(one).hex())
"""


def why_not() -> str | None:
    """What is missing, with the remedy; None: nothing."""
    if reason := why_no_machine():
        return reason
    if not list(Path(os.environ.get("DEBS", "/nowhere")).glob(f"{SUITE}/lispmob_*_arm64.deb")):
        return "there is no package: make debs ARCHES=arm64, then DEBS=$PWD/dist"
    if not (BUILT_IN / "complete").exists():
        return f"{BUILT_IN} is missing: make debs ARCHES=arm64 leaves it"
    return None


pytestmark = [
    pytest.mark.package,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(why_not() is not None, reason=why_not() or ""),
]

Sh = Callable[[str], str]
_ENTER: Final = """set -e
mount -t overlay overlay -o lowerdir={base},upperdir={work}/upper,workdir={work}/work {work}/root
mount -t proc proc {work}/root/proc
mount --rbind /dev {work}/root/dev
export DEBIAN_FRONTEND=noninteractive LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
exec chroot {work}/root sh -ec "$1"
"""


@pytest.fixture
def sh(tmp_path: Path) -> Sh:
    for name in ("upper/etc", "upper/root", "work", "root"):
        (tmp_path / name).mkdir(parents=True)
    shutil.copyfile("/etc/resolv.conf", tmp_path / "upper/etc/resolv.conf")
    (package,) = (Path(os.environ["DEBS"]) / SUITE).glob("lispmob_*_arm64.deb")
    shutil.copyfile(package, tmp_path / "upper/root/lispmob.deb")
    (tmp_path / "upper/root/computing.py").write_text(COMPUTING)
    enter = _ENTER.format(base=BUILT_IN, work=tmp_path)

    def run(script: str) -> str:
        command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", enter, "sh", script]
        done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout

    return run


def test_the_package_for_arm64_installs_starts_and_computes_what_this_machine_computes(sh: Sh) -> None:
    assert sh("uname -m").strip() == "aarch64"
    sh("apt-get install -y -qq --no-install-recommends /root/lispmob.deb")

    for program in PROGRAMS:
        assert sh(f"{program} --version").split()[0] == program
    configured = "sed 's/CHANGE-ME/ours/' /etc/lispmob/lispd.conf >/root/lispd.conf; chmod 600 /root/lispd.conf"
    assert "good" in sh(f"{configured}; lispd --check -c /root/lispd.conf")
    set_up = "lisphub setup -c /root/hub/hub.conf --yes --no-service --address 198.51.100.1"
    assert "good" in sh(f"{set_up}; lisphub --check -c /root/hub/hub.conf")
    assert sh("stat -c '%U:%G %a' /etc/lispmob/lispd.conf").strip() == "root:lispmob 640"
    assert sh("python3 -P /root/computing.py").split() == ["aarch64", NoiseCiphers().public_key(bytes(range(32))).hex()]
