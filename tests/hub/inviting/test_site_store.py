"""The file of the invited sites: it gives back what was written, and other files are left alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from lispmob.errors import LispError
from lispmob.hub.inviting.site_store import SiteStore
from tests.hub.inviting.inviting_hub import Hub, node


def test_the_file_gives_back_what_was_written_and_is_for_its_owner_alone(tmp_path: Path) -> None:
    hub, path = Hub(), tmp_path / "sites.sqlite"
    store = SiteStore(path)
    assert store.open() == []
    pending, _ = hub.invite("phone", 1.0)
    _, invitation = hub.invite("laptop", 2.0)
    joined = hub.ask(node(invitation).question, 3.0).kept
    assert joined is not None
    for invited_site in (pending, joined):
        store.put(invited_site)
    store.close()

    again = SiteStore(path)
    assert again.open() == [pending, joined]
    again.remove("phone")
    again.close()

    third = SiteStore(path)
    assert third.open() == [joined]
    third.close()
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_hubs_key_is_drawn_once_and_is_there_after_a_restart_also_in_a_file_of_before(tmp_path: Path) -> None:
    path = tmp_path / "sites.sqlite"
    before = SiteStore(path)
    before.open()
    before.put(Hub().invite("phone")[0])
    assert before.known_hub_key() is None
    assert before.hub_key(b"k" * 32) == before.hub_key(b"o" * 32) == b"k" * 32
    before.close()

    after = SiteStore(path)
    after.open()
    assert after.known_hub_key() == b"k" * 32
    after.close()


def test_a_file_that_is_something_else_is_left_alone_and_told(tmp_path: Path) -> None:
    path = tmp_path / "sites.sqlite"
    path.write_bytes(b"somebody's letters" * 100)

    with pytest.raises(LispError, match="check the file"):
        SiteStore(path).open()

    assert path.read_bytes().startswith(b"somebody's letters")
