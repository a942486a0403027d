"""A real polkitd decides who may change settings over D-Bus: by its rules, by our policy, and by a password."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.desktop.private_bus import wait_for
from tests.packaging.desktop_machine import DesktopMachine, desktop_machine
from tests.packaging.machine import why_no_machine

pytestmark = [
    pytest.mark.package,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(why_no_machine() is not None, reason=why_no_machine() or ""),
]

ACTIONS: Final = ("net.lispmob.reload", "net.lispmob.change-map-cache")
EID_SHOWN: Final = "10.1.0.1"
PASSWORD: Final = "open sesame"
_NAME: Final = "net.lispmob.Daemon1"
_OBJECT: Final = f"{_NAME} /{_NAME.replace('.', '/')} {_NAME}"

_RULE: Final = """polkit.addRule(function(action, subject) {
  if (action.id == "net.lispmob.reload" && subject.user == "anna") return polkit.Result.YES;
});
"""
_SESSION: Final = "".join(f"{kind} required pam_permit.so\n" for kind in ("auth", "account")) + (
    "session required pam_systemd.so class=user\n"
)
# As in a user's terminal: busctl asks, polkit's own agent for terminals asks back, and a user types.
_TERMINAL: Final = """(sleep 2; exec busctl --system call "$@") & caller=$!
pkttyagent --process $caller & agent=$!
wait $caller; code=$?
kill $agent
exit $code
"""
_TYPING: Final = """import os, pty, sys, time
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(sys.argv[2], sys.argv[2:])
shown = b""
deadline = time.monotonic() + 60
while time.monotonic() < deadline:
    try:
        octets = os.read(terminal, 4096)
    except OSError:
        break
    if not octets:
        break
    shown += octets
    if shown.rstrip().endswith(b"Password:"):
        time.sleep(0.2)
        os.write(terminal, sys.argv[1].encode() + b"\\n")
        shown += b" (typed) "
print(shown.decode(errors="replace"))
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.fixture
def desktop(package: Path, tmp_path: Path) -> Iterator[DesktopMachine]:
    with desktop_machine(tmp_path, package) as one:
        one.connect(0)
        one.start_lispd()
        yield one


def as_anna(desktop: DesktopMachine, command: str) -> str:
    """The output for a user without any rights, with standard error."""
    return desktop.box.sh(f"runuser -u anna -- {command} 2>&1", must=False)


def log_in(desktop: DesktopMachine, command: str, seat: str | None) -> str:
    """The output of a command in a session of this user that logind knows: at a seat of this machine, or remote."""
    at = f"-p Environment=XDG_SEAT={seat} -p Environment=XDG_SESSION_TYPE=x11" if seat is not None else ""
    desktop.box.put("/etc/pam.d/seat", _SESSION)
    run = f"systemd-run --wait --pipe --quiet --uid=anna -p PAMName=seat {at}"
    return desktop.box.sh(f"{run} sh -c {shlex.quote(f'{command}; echo code $?')} 2>&1 || true")


def call(member: str) -> str:
    return f"gdbus call --system --dest {_NAME} --object-path /{_NAME.replace('.', '/')} --method {_NAME}.{member}"


def test_our_policy_is_read_and_says_who_may_do_what(desktop: DesktopMachine) -> None:
    for action, active in zip(ACTIONS, ("yes", "auth_admin_keep"), strict=True):
        shown = desktop.box.sh(f"pkaction --verbose --action-id {action}")
        told = dict(line.strip().split(":", 1) for line in shown.splitlines() if ":" in line)
        assert told["implicit any"].strip() == "auth_admin"
        assert told["implicit inactive"].strip() == "auth_admin"
        assert told["implicit active"].strip() == active
        assert "org.freedesktop.policykit.owner -> unix-user:lispmob" in shown


def test_who_may_not_may_look_and_a_rule_of_the_administrators_lets_one_do_one_thing(desktop: DesktopMachine) -> None:
    assert EID_SHOWN in as_anna(desktop, call("GetStatus"))
    assert "AccessDenied" in as_anna(desktop, call("Reload"))
    assert "AccessDenied" in as_anna(desktop, call("FlushMapCache"))

    desktop.box.put("/etc/polkit-1/rules.d/40-anna.rules", _RULE)
    desktop.box.sh("systemctl restart polkit")

    assert "AccessDenied" not in as_anna(desktop, call("Reload"))
    assert "configuration read again" in desktop.box.sh("journalctl -u lispd -o cat")
    assert "AccessDenied" in as_anna(desktop, call("FlushMapCache"))


def test_an_administrators_password_is_asked_for_and_is_what_decides(desktop: DesktopMachine) -> None:
    desktop.box.sh(f"echo 'root:{PASSWORD}' | chpasswd")
    desktop.box.put("/srv/typing.py", _TYPING)
    desktop.box.put("/srv/terminal", _TERMINAL)

    def busctl(member: str, password: str) -> str:
        typing = f"python3 /srv/typing.py {shlex.quote(password)}"
        return as_anna(desktop, f"{typing} sh /srv/terminal {_OBJECT} {member}")

    wrong = busctl("FlushMapCache", "open barley")
    right = busctl("FlushMapCache", PASSWORD)

    message = "Authentication is required to change mappings of the LISP mobile node"
    assert message in wrong
    assert "AUTHENTICATION FAILED" in wrong
    assert "Call failed" in wrong
    assert message in right
    assert "AUTHENTICATION COMPLETE" in right
    assert right.rstrip().endswith("u 0"), "how many mappings were flushed"


def test_only_the_user_at_the_machine_may_leave_the_overlay_and_come_back(desktop: DesktopMachine) -> None:
    def is_running() -> bool:
        return desktop.box.sh("systemctl is-active lispd", must=False).strip() == "active"

    left = log_in(desktop, "lispctl down", "seat0")
    assert (left.splitlines()[-1], is_running()) == ("code 0", False)
    assert "left the overlay" in left
    back = log_in(desktop, "lispctl up", "seat0")
    assert (back.splitlines()[-1], is_running()) == ("code 0", True)

    for command in ("lispctl down", "lispctl up"):
        refused = log_in(desktop, command, None)
        assert "the user at this machine" in refused, "a session by ssh has no seat"
        assert (refused.splitlines()[-1], is_running()) == ("code 77", True)
    other = log_in(desktop, "systemctl --no-ask-password stop NetworkManager", "seat0")
    assert other.splitlines()[-1] != "code 0"
    assert desktop.box.sh("systemctl is-active NetworkManager").strip() == "active"


def test_a_user_whose_session_is_no_longer_active_is_refused(desktop: DesktopMachine) -> None:
    waiting = (
        "touch $HOME/here; until test -e /run/go; do sleep 0.1; done; loginctl show-session $XDG_SESSION_ID -p Active"
    )
    desktop.box.put("/etc/pam.d/seat", _SESSION)
    desktop.box.put("/srv/behind", f"{waiting}\nlispctl down\necho code $?\n")
    at_seat = "-p PAMName=seat -p Environment=XDG_SEAT=seat0 -p Environment=XDG_SESSION_TYPE=x11"
    said = "-p StandardOutput=file:/srv/said -p StandardError=inherit"
    desktop.box.sh(f"systemd-run --quiet --unit=behind --uid=anna {at_seat} {said} sh /srv/behind")
    wait_for(lambda: desktop.box.sh("ls /home/anna/here", must=False) != "", "a session is at the seat")

    # polkit checks whether any session of a user is active, so it has to be another user's.
    desktop.box.sh(f"useradd -m ben; systemd-run --quiet --unit=front --uid=ben {at_seat} sleep 60")
    wait_for(lambda: desktop.box.sh("loginctl --no-legend list-sessions").count("seat0") == 2, "another is in front")
    desktop.box.sh("touch /run/go")

    wait_for(lambda: "code" in desktop.box.sh("cat /srv/said"), "the one behind has tried")
    refused = desktop.box.sh("cat /srv/said")
    assert "Active=no" in refused
    assert refused.splitlines()[-1] == "code 77"
    assert desktop.status()["state"] == "registered"
