"""The niceness of lispd and lisphub among the sessions of the machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GROUPS = Path("/proc/self/autogroup")
PROGRAM = """
import sys
from pathlib import Path
from lispmob.session_priority import use_niceness_among_sessions
done = use_niceness_among_sessions(Path(sys.argv[1]))
own = Path("/proc/self/autogroup")
print(done, own.read_text() if own.exists() else "")
"""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a niceness below 0 needs root")


def run(niceness: int, *, is_leader: bool = True, place: Path = GROUPS) -> tuple[bool, int | None]:
    """Whether it says that it is done, and the niceness of its session afterwards."""
    command = ["nice", "-n", str(niceness), sys.executable, "-c", PROGRAM, str(place)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=True, start_new_session=is_leader
    )
    said, _, session = done.stdout.strip().partition(" ")
    found = re.search(r"nice (-?\d+)", session)
    return said == "True", int(found[1]) if found else None


@pytest.mark.skipif(not GROUPS.exists(), reason="this kernel does not group processes by session")
@pytest.mark.parametrize("niceness", [-5, -1, 7])
def test_a_service_is_as_nice_to_other_sessions_as_to_its_own(niceness: int) -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    expected = max(-20, min(19, own + niceness))

    is_done, of_session = run(niceness)

    assert (is_done, of_session) == ((True, expected) if expected else (False, 0))


@pytest.mark.skipif(not GROUPS.exists(), reason="this kernel does not group processes by session")
def test_the_session_of_a_shell_stays_as_it_is() -> None:
    before = GROUPS.read_text()

    is_done, _ = run(-5, is_leader=False)

    assert (is_done, GROUPS.read_text()) == (False, before)


@pytest.mark.parametrize("name", ["nothing/autogroup", ""])
def test_a_kernel_without_such_groups_is_no_error(tmp_path: Path, name: str) -> None:
    is_done, _ = run(-5, place=tmp_path / name)

    assert not is_done


@pytest.mark.parametrize("unit", ["lispd.service", "lisphub.service"])
def test_the_services_may_set_the_niceness_that_they_run_with(unit: str) -> None:
    lines = (ROOT / "packaging" / "systemd" / unit).read_text().splitlines()
    said = dict(line.split("=", 1) for line in lines if line.startswith(("Nice=", "LimitNICE=")))

    assert said["LimitNICE"] == said["Nice"]
