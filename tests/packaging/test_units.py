"""The units as they are in the tree; test_deb.py runs them under a real systemd."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.packaging.machine import ROOT

pytestmark = [
    pytest.mark.skipif(
        shutil.which("systemd-analyze") is None,
        reason="systemd-analyze is missing: install the Debian package systemd",
    ),
    pytest.mark.parametrize("unit", ["lispd.service", "lisphub.service"]),
]

WORST = 2.0
BPF_ALLOWED = "@privileged @resources\nSystemCallFilter=bpf\n"


def test_the_exposure_of_a_unit_is_2_at_most(unit: str) -> None:
    path = ROOT / "packaging" / "systemd" / unit
    command = ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(path)]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout

    (verdict,) = [line for line in shown.splitlines() if "Overall exposure level" in line]
    assert float(verdict.rpartition(": ")[2].split()[0]) <= WORST


CAPABILITIES = {
    "lispd.service": "CAP_NET_ADMIN CAP_BPF CAP_PERFMON CAP_NET_BIND_SERVICE",
    "lisphub.service": "CAP_NET_ADMIN CAP_BPF CAP_PERFMON",
}


def test_a_unit_has_its_few_capabilities_and_the_call_that_they_are_for(unit: str) -> None:
    lines = (ROOT / "packaging" / "systemd" / unit).read_text("ascii")

    assert f"\nAmbientCapabilities={CAPABILITIES[unit]}\n" in lines
    assert f"\nCapabilityBoundingSet={CAPABILITIES[unit]}\n" in lines
    assert BPF_ALLOWED in lines, "@privileged takes bpf(2) away: it has to be given back behind that"
