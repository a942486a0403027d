"""Without root or without `ip`: a sentence that says what to do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from lispmob.lab import namespace


def test_without_the_tool_ip_the_reason_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda _: None)

    assert namespace.why_unavailable() == "the tool `ip` is missing: install the package iproute2"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_the_demonstration_without_root_says_so_and_ends_with_77() -> None:
    script = "import os, sys; from lispmob.lab.demo.__main__ import main; os.setuid(65534); sys.exit(main([]))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)

    assert (done.returncode, done.stderr) == (77, "demo: network namespaces need root: run it with sudo\n")
