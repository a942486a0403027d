"""Who may hold a name and who may call it, by lispd.conf and without an entry there."""

from __future__ import annotations

import os
import pwd
from ipaddress import ip_address
from pathlib import Path

import pytest

from lispmob.config.flows import FlowsSection
from lispmob.config.node import NodeFile
from lispmob.config.reader import read_bytes
from lispmob.lispd.flows.names import group_names, held_name, key_of_name, section_of, user_name, why_not

CONF = """\
eids: [10.1.0.1/32]
map-servers: [{address: hub.example.net, key: a}]
flows:
  enabled: yes
  names:
    - {name: Backup.nas, user: [alice, bob], group: [operators], from: [10.2.0.0/16, "fd00:2::/32"], key: shared}
    - {name: door}
  keys:
    - {name: other, with: [10.9.0.0/16], key: sixteen octets at least}
    - {name: shared, with: [10.2.0.0/16], key: correct horse battery staple}
"""
FLOWS: FlowsSection = read_bytes(CONF.encode(), "lispd.conf", NodeFile, directory=Path()).flows


@pytest.mark.parametrize(
    ("name", "user", "groups", "is_allowed"),
    [
        ("backup.nas", "alice", (), True),
        ("BACKUP.NAS", "bob", (), True),
        ("backup.nas", "carol", ("operators", "games"), True),
        ("backup.nas", "carol", ("games",), False),
        ("door", "alice", ("operators",), False),
        ("alice-notes", "alice", (), True),
        ("Alice-Notes", "alice", (), True),
        ("alice-", "alice", (), False),
        ("alice", "alice", (), False),
        ("alicenotes", "alice", (), False),
        ("bob-notes", "alice", (), False),
    ],
)
def test_a_name_is_for_those_of_its_entry_and_else_for_the_user_whose_name_it_begins_with(
    name: str, user: str, groups: tuple[str, ...], is_allowed: bool
) -> None:
    why = why_not(name, user, frozenset(groups), section_of(name, FLOWS))

    assert (why is None) == is_allowed
    assert why is None or user in why


def test_a_name_that_is_kept_for_some_is_called_by_those_eids_alone() -> None:
    held = held_name("backup.nas", "alice", FLOWS, lambda eid: str(eid) != "10.2.0.99", asks_program=True, backlog=4)
    callers = ["10.2.0.7", "fd00:2::7", "10.2.0.99", "10.3.0.7", "fd00:3::7"]

    assert [held.may_call(ip_address(caller)) for caller in callers] == [True, True, False, False, False]
    assert (held.name, held.owner, held.asks_program, held.backlog) == ("backup.nas", "alice", True, 4)
    assert held.key is not None
    assert held.key.secret == b"correct horse battery staple"


@pytest.mark.parametrize("name", ["door", "alice-notes"])
def test_a_name_without_callers_is_called_by_every_eid_of_the_overlay_and_needs_no_key(name: str) -> None:
    held = held_name(name, "alice", FLOWS, lambda eid: eid.version == 4, asks_program=False, backlog=16)

    assert [held.may_call(ip_address(caller)) for caller in ("10.3.0.7", "fd00:2::7")] == [True, False]
    assert (held.asks_program, held.key, key_of_name(name, FLOWS)) == (False, None, None)


def test_a_user_without_a_name_is_a_number_and_a_group_without_a_name_is_left_out() -> None:
    assert user_name(os.getuid()) == pwd.getpwuid(os.getuid()).pw_name
    assert user_name(4_000_000_000) == "4000000000"
    assert group_names([0, 4_000_000_000]) == {"root"}
