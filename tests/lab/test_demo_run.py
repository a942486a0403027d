"""The demonstration as a process: in whatever way it ends, it leaves a report and nothing else."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.netns


def test_an_interrupted_demonstration_takes_everything_down_and_says_what_it_did_not_see(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lispmob.lab.demo", "--plain", "--output", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as demo:
        try:
            assert demo.stdout is not None
            assert demo.stdout.readline().strip() == "A hub and two nodes start"
            assert namespaces_of(demo.pid)
            time.sleep(0.5)
            demo.send_signal(signal.SIGTERM)
            _, complaint = demo.communicate(timeout=30)
        finally:
            demo.kill()

    assert (demo.returncode, complaint.strip()) == (130, "demo: interrupted by SIGTERM")
    assert namespaces_of(demo.pid) == []
    checks = {check["name"]: check["ok"] for check in json.loads((tmp_path / "report.json").read_text())["checks"]}
    assert checks["host-network.unchanged"]
    assert checks["tcp-stream.alive"] is False


def namespaces_of(pid: int) -> list[str]:
    directory = Path("/run/netns")
    return [path.name for path in directory.iterdir() if f"lmlab{pid}-" in path.name] if directory.is_dir() else []
