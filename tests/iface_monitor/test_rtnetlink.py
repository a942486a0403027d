"""The interface to pyroute2, and how netlink's own framing is read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def in_a_fresh_interpreter(program: str) -> None:
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=30)


def test_only_the_part_of_pyroute2_that_is_used_gets_loaded() -> None:
    in_a_fresh_interpreter(
        "import sys, lispmob.iface_monitor.rtnetlink; "
        "assert 'pyroute2.iproute' not in sys.modules; "
        "import lispmob.netlink.iproute; "
        "assert not {'pyroute2', 'pyroute2.ndb.main', 'pyroute2.ethtool', 'sqlite3'} & set(sys.modules)"
    )


def test_all_of_pyroute2_can_still_be_imported_before_or_after() -> None:
    in_a_fresh_interpreter("import lispmob.netlink.iproute, pyroute2; assert pyroute2.NDB")
    in_a_fresh_interpreter("import pyroute2, lispmob.netlink.iproute as r; assert r.AsyncIPRoute")
