"""A node that is refused beside another one with its EID registers again, under a new xTR-ID."""

from __future__ import annotations

from pathlib import Path

import pytest

from lispmob.lispd.identity import Identity
from lispmob.lispd.state_dir import load_xtr_id
from lispmob.protocol.effect import Event

REFUSED = Event("eid-shared", {"eid": "10.1.0.1/32", "map_server": "198.51.100.1", "text": "the other one keeps it"})
FIXED = bytes(range(16))


def test_who_is_refused_beside_another_machine_draws_another_xtr_id_once_and_keeps_it(tmp_path: Path) -> None:
    copied = load_xtr_id(tmp_path)
    identity = Identity(None, tmp_path, lambda _: None)
    assert identity.xtr_id == copied

    assert identity.on_event(REFUSED, is_registered=False)
    drawn = identity.xtr_id

    assert drawn != copied
    assert load_xtr_id(tmp_path) == drawn
    assert not identity.on_event(REFUSED, is_registered=False)
    assert identity.xtr_id == drawn


def test_two_copies_of_one_disk_end_up_with_different_ones(tmp_path: Path) -> None:
    copies = [tmp_path / name for name in ("a", "b")]
    original = load_xtr_id(copies[0])
    copies[1].mkdir()
    (copies[1] / "xtr-id").write_text((copies[0] / "xtr-id").read_text())
    kept, refused = (Identity(None, copy, lambda _: None) for copy in copies)

    refused.on_event(REFUSED, is_registered=False)

    assert kept.xtr_id == original
    assert refused.xtr_id != original


@pytest.mark.parametrize(
    ("configured", "event", "is_registered"),
    [
        (FIXED, REFUSED, False),
        (None, REFUSED, True),
        (None, Event("register-refused", {"text": "by policy"}), False),
        (None, Event("registered", {"shared": "the other one is refused"}), False),
    ],
    ids=["configured", "stands elsewhere", "refused for another reason", "keeps the EID"],
)
def test_in_all_other_cases_it_stays(
    configured: bytes | None, event: Event, is_registered: bool, tmp_path: Path
) -> None:
    identity = Identity(configured, tmp_path, lambda _: None)
    before = identity.xtr_id

    assert not identity.on_event(event, is_registered=is_registered)
    assert identity.xtr_id == before


def test_one_that_cannot_be_kept_is_used_all_the_same_and_says_so(tmp_path: Path) -> None:
    complaints: list[str] = []
    (tmp_path / "file").write_text("in the way")
    identity = Identity(None, tmp_path / "file" / "state", complaints.append)

    assert identity.on_event(REFUSED, is_registered=False)
    assert len(complaints) == 2
