"""`lispctl run` with real commands, control groups and iptables: captures show the uplinks of their packets."""

from __future__ import annotations

import grp
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lispmob.lab.process import module
from lispmob.mh.kernel import cgroups
from tests.mh.town.carried import carried
from tests.mh.town.town import B, Town, town, wait_for

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(cgroups.root() is None, reason="no unified control group hierarchy"),
]

# Sends datagrams to B's EID until it is ended, or a given number.
SENDER = """\
import socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(int(sys.argv[2])):
    try:
        s.sendto(b"x" * 64, (sys.argv[1], 9))
    except OSError:
        pass
    time.sleep(float(sys.argv[3]))
"""
COUNT = 60
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def here() -> Iterator[Town]:
    """wlan0 is preferred."""
    with town() as made:
        made.show_cgroups()
        yield made


def command(here: Town, *words: str) -> list[str]:
    socket_path = here.directory / "a" / "lispd.sock"
    line = module("lispmob.lispctl.main", "--socket", str(socket_path), "run", *words)
    # Not `ip netns exec`, which hides the control groups behind another /sys.
    return ["nsenter", f"--net=/run/netns/{here.a.name}", *line]


def sender(count: int = COUNT, pause_s: float = 0.001) -> list[str]:
    return [sys.executable, "-c", SENDER, str(B.eid4), str(count), str(pause_s)]


def sent_while(here: Town, argv: list[str], **options: object) -> dict[str, int]:
    """Packets of data by uplink."""
    with carried(here) as counts:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False, **options)  # type: ignore[call-overload]
        wait_until_sent(here)
    assert done.returncode == 0, done.stderr
    return counts


def wait_until_sent(here: Town) -> None:
    """Wait until the datapath has sent everything that a command gave it."""
    before = -1
    for _ in range(50):
        now = sum(here.sent(name) for name in ("wlan0", "lte0"))
        if now == before:
            return
        before = now
        time.sleep(0.1)


def rules(here: Town) -> str:
    return here.a.run("iptables-save", "-t", "mangle")


def leftovers() -> list[Path]:
    root = cgroups.root()
    assert root is not None
    return sorted(path for path in (root / cgroups.OURS).glob("*") if path.is_dir())


def test_only_a_command_and_its_children_leave_by_its_uplink(here: Town) -> None:
    plain = sent_while(here, ["nsenter", f"--net=/run/netns/{here.a.name}", *sender()])
    alone = sent_while(here, command(here, "--via", "lte0", "--", *sender()))
    child = ["sh", "-c", '"$@" & wait', "sh", *sender()]
    children = sent_while(here, command(here, "--via", "lte*", "--", *child))
    beside = sent_while(here, ["nsenter", f"--net=/run/netns/{here.a.name}", *sender()])

    assert plain["wlan0"] >= COUNT > COUNT / 2 > plain["lte0"]
    assert alone["lte0"] >= COUNT > COUNT / 2 > alone["wlan0"]
    assert children["lte0"] >= COUNT > COUNT / 2 > children["wlan0"]
    assert beside["wlan0"] >= COUNT > COUNT / 2 > beside["lte0"]


def test_the_exit_code_the_output_and_the_input_are_the_commands_own(here: Town) -> None:
    argv = command(here, "--via", "lte0", "--", "sh", "-c", "cat; echo err >&2; exit 7")

    done = subprocess.run(argv, input="in", capture_output=True, text=True, timeout=20, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (7, "in", "err\n")


def test_rule_and_control_group_are_gone_after_the_last_process_and_not_before(here: Town) -> None:
    argv = command(here, "--via", "lte0", "--", "sh", "-c", "sleep 2.5 & exit 0")
    subprocess.run(argv, check=True, timeout=20)
    while_a_child_lives = rules(here)
    time.sleep(1.3)
    still = rules(here)

    assert "run " in while_a_child_lives
    assert "run " in still
    wait_for(lambda: "run " not in rules(here) and not leftovers(), 10)


def test_when_the_uplink_goes_its_packets_fall_back_and_come_back_with_it(here: Town) -> None:
    running = subprocess.Popen(command(here, "--via", "lte0", "--", *sender(4000, 0.004)))
    try:
        wait_for(lambda: "run " in rules(here), 10)
        time.sleep(0.3)
        on_lte = rates(here)
        here.a.run("ip", "link", "set", "lte0", "down")
        time.sleep(1.0)
        fallen_back = rates(here)
        here.a.run("ip", "link", "set", "lte0", "up")
        here.a.run(*["ip", "route", "replace", "default", "via", "198.18.2.1", "dev", "lte0", "metric", "200"])
        time.sleep(1.5)
        back = rates(here)
    finally:
        running.terminate()
        running.wait(10)

    assert on_lte["lte0"] > 20 > 10 > on_lte["wlan0"]
    assert fallen_back["wlan0"] > 20
    assert back["lte0"] > 20 > 10 > back["wlan0"]


def rates(here: Town) -> dict[str, int]:
    """Packets of data by uplink within 0.3 s."""
    with carried(here) as counts:
        time.sleep(0.3)
    return counts


def test_with_or_drop_nothing_is_sent_while_the_uplink_is_not_there(here: Town) -> None:
    dropped = sent_while(here, command(here, "--via", "eth7", "--or-drop", "--", *sender()))
    falls_back = sent_while(here, command(here, "--via", "eth7", "--", *sender()))

    assert max(dropped.values()) < COUNT / 2
    assert falls_back["wlan0"] >= COUNT


@pytest.mark.ordinary_user
def test_an_ordinary_user_needs_the_group_and_no_more(here: Town) -> None:
    python = Path("/usr/bin/python3")
    if not python.exists():
        pytest.skip("an ordinary user has no Python here")
    for path in (here.directory, here.directory / "a"):
        path.chmod(0o755)
    start = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from lispmob.lispctl.main import main; sys.exit(main())"
    lispctl = [str(python), "-I", "-c", start, "--socket", str(here.directory / "a" / "lispd.sock")]
    argv = [*lispctl, "run", "--via", "lte0", "--", str(python), "-c", SENDER, str(B.eid4), str(COUNT), "0.001"]
    net = f"--net=/run/netns/{here.a.name}"
    group = grp.getgrnam("root").gr_gid  # control.group of this configuration
    nobody = ["nsenter", net, "setpriv", "--reuid=65534", "--regid=65534"]

    member = sent_while(here, [*nobody, f"--groups={group}", *argv])
    line = [*nobody, "--clear-groups", *argv]
    refused = subprocess.run(line, capture_output=True, text=True, timeout=20, check=False)

    assert member["lte0"] >= COUNT > COUNT / 2 > member["wlan0"]
    assert refused.returncode == 1
    assert "only root may do this (control.group is root" in refused.stderr


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (["--via", "lte0"], 2, "which command?"),
        (["--via", "lte0", "--", "no-such-command-here"], 127, "no such command"),
        (["--via", "", "--", "true"], 1, "via: 1 to 32"),
    ],
)
def test_what_cannot_be_run_is_refused_with_a_sentence(here: Town, words: list[str], code: int, complaint: str) -> None:
    done = subprocess.run(command(here, *words), capture_output=True, text=True, timeout=20, check=False)

    assert done.returncode == code
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr
