"""A real polkitd decides who may change things over D-Bus: by its rules, by our policy, and by a password."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

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
# What a user's terminal does: busctl asks, polkit's own agent for terminals asks back, and somebody types.
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
    """What a user without any rights is told; standard error included."""
    return desktop.box.sh(f"runuser -u anna -- {command} 2>&1", must=False)


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
