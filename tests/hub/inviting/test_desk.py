"""Invitations and their file: only what is on the disk is reported, and a file that cannot be used does no harm."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from lispmob.crypto.noise_ciphers import NoiseCiphers
from lispmob.errors import LispError
from lispmob.hub.inviting.desk import InvitationDesk
from lispmob.hub.inviting.invitations import Offer
from lispmob.hub.inviting.site_directory import SiteDirectory
from lispmob.joining.exchange import Exchange, JoinRefused, Message, Redemption, Verdict
from lispmob.joining.invitation import ID_OCTETS, read_invitation
from tests.hub.exchange import eid

NODE = ip_address("192.0.2.5")
OFFER = Offer(addresses=(ip_address("198.51.100.1"),), pools=(eid("10.99.0.0/24"),))


class Desk:
    """The desk, and the sites that it gave the hub."""

    def __init__(self, path: Path | None) -> None:
        self.sites: list[tuple[str, ...]] = []
        self.told: list[str] = []
        self.desk = InvitationDesk(path, OFFER, self._on_sites, lambda kind, _: self.told.append(kind))
        self.desk.open(())

    async def _on_sites(self) -> None:
        self.sites.append(tuple(site.name for site in self.desk.sites()))

    async def ask(self, redemption: Redemption) -> list[bytes]:
        """The answer to a question."""
        answers: list[bytes] = []
        self.desk.on_question(redemption.question, NODE, answers.append)
        await asyncio.gather(*self.desk._tasks)
        return answers


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(main, 20))


def redemption(line: str) -> Redemption:
    return Redemption(read_invitation(line), b"n" * 32, NoiseCiphers())


class Guess(Exchange):
    """A question about an invitation that does not exist."""

    def __init__(self, number: int) -> None:
        super().__init__(Verdict.QUESTION, number.to_bytes(ID_OCTETS), b"guessed", b"n" * 32, NoiseCiphers())


def test_who_was_invited_and_who_joined_is_known_after_a_restart(tmp_path: Path) -> None:
    async def main() -> None:
        first = Desk(tmp_path / "sites.sqlite")
        lines = {name: (await first.desk.invite({"name": name}))["line"] for name in ("laptop", "phone")}
        joined = redemption(lines["laptop"])
        (answer,) = await first.ask(joined)
        key = joined.on_answer(answer).key
        await first.desk.close()

        second = Desk(tmp_path / "sites.sqlite")

        assert {site.name: [k.secret for k in site.keys] for site in second.desk.sites()} == {
            "laptop": [key],
            "phone": [],
        }
        assert (await second.ask(joined)) == [answer]
        assert redemption(lines["phone"]).on_answer((await second.ask(redemption(lines["phone"])))[0]).key != key
        await second.desk.close()

    run(main())


def test_a_line_of_before_a_restart_is_redeemed_by_the_key_that_it_names(tmp_path: Path) -> None:
    async def main() -> None:
        first = Desk(tmp_path / "sites.sqlite")
        line = (await first.desk.invite({"name": "laptop"}))["line"]
        other = (await first.desk.invite({"name": "phone"}))["line"]
        await first.desk.close()
        second = Desk(tmp_path / "sites.sqlite")

        (answer,) = await second.ask(redemption(line))

        assert read_invitation(line).public_key == read_invitation(other).public_key is not None
        assert redemption(line).on_answer(answer).settings.name == "laptop"
        await second.desk.close()

    run(main())


def test_a_site_is_one_of_the_hub_before_its_node_is_told(tmp_path: Path) -> None:
    async def main() -> None:
        desk = Desk(tmp_path / "sites.sqlite")
        line = (await desk.desk.invite({"name": "laptop"}))["line"]
        await desk.ask(redemption(line))
        await desk.desk.revoke({"name": "laptop"})

        assert desk.sites == [("laptop",), ("laptop",), ()]
        assert desk.told == ["invited", "joined", "revoked"]
        await desk.desk.close()

    run(main())


def test_a_disk_that_does_not_take_it_is_told_to_the_node_and_the_invitation_still_counts(tmp_path: Path) -> None:
    async def main() -> None:
        desk = Desk(tmp_path / "sites.sqlite")
        line = (await desk.desk.invite({"name": "laptop"}))["line"]
        store = desk.desk._store
        assert store is not None
        assert store._database is not None
        store._database.execute("PRAGMA query_only = ON")
        (refused,) = await desk.ask(redemption(line))
        store._database.execute("PRAGMA query_only = OFF")
        (accepted,) = await desk.ask(redemption(line))

        with pytest.raises(JoinRefused) as error:
            redemption(line).on_answer(refused)
        assert error.value.verdict is Verdict.NOT_NOW
        assert redemption(line).on_answer(accepted).settings.name == "laptop"
        await desk.desk.close()

    run(main())


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({}, "a name is needed"),
        ({"name": 7}, "a name is needed"),
        ({"name": "x", "valid_s": 1}, "for a minute at least"),
        ({"name": "x", "valid_s": "1h"}, "for a minute at least"),
        ({"name": "x", "valid_s": 1e12}, "for a year at most"),
    ],
)
def test_what_no_invitation_is_made_of_is_told(tmp_path: Path, asked: dict[str, Any], why: str) -> None:
    async def main() -> None:
        desk = Desk(tmp_path / "sites.sqlite")
        with pytest.raises(LispError, match=why):
            await desk.desk.invite(asked)
        await desk.desk.close()

    run(main())


def test_without_a_place_for_sites_no_node_is_invited(tmp_path: Path) -> None:
    async def main() -> None:
        (tmp_path / "damaged").write_bytes(b"letters" * 1000)
        for path, why in ((None, "'state-file: none'"), (tmp_path / "damaged", "check the file")):
            desk = Desk(path)
            with pytest.raises(LispError, match=why):
                await desk.desk.invite({"name": "laptop"})
            assert desk.desk.sites() == ()
            await desk.desk.close()

    run(main())


def test_what_is_no_question_is_counted_and_not_answered(tmp_path: Path) -> None:
    async def main() -> None:
        desk = Desk(tmp_path / "sites.sqlite")
        answers: list[bytes] = []
        for raw in (b"\xff\x02", b"\xff\x02" + bytes(100), b"\xff\x02\x01\x00" + bytes(100)):
            desk.desk.on_question(raw, NODE, answers.append)
        await asyncio.gather(*desk.desk._tasks)

        assert answers == []
        assert dict(desk.desk.counters) == {"rx_short": 1, "rx_type": 2}
        await desk.desk.close()

    run(main())


def test_junk_that_comes_while_the_disk_is_slow_takes_no_place_of_those_who_join(tmp_path: Path) -> None:
    async def main() -> None:
        desk = Desk(tmp_path / "sites.sqlite")
        first, second = [(await desk.desk.invite({"name": name}))["line"] for name in ("laptop", "desktop")]
        answers: list[bytes] = []
        desk.desk.on_question(redemption(first).question, NODE, answers.append)
        await asyncio.sleep(0)  # it is being written now
        for number in range(1000):
            desk.desk.on_question(Guess(number).question, NODE + number, lambda _: None)
        desk.desk.on_question(redemption(second).question, NODE, answers.append)
        await asyncio.gather(*desk.desk._tasks)

        assert [Message.decode(raw).verdict for raw in answers] == [Verdict.ACCEPTED] * 2
        await desk.desk.close()

    run(main())


def test_the_states_are_fit_for_json(tmp_path: Path) -> None:
    async def main() -> None:
        desk = Desk(tmp_path / "sites.sqlite")
        made = await desk.desk.invite({"name": "laptop", "valid_s": 3600})
        states = desk.desk.states(made["expires_at"] + 1)

        assert json.loads(json.dumps(states))["laptop"]["state"] == "expired"
        await desk.desk.close()

    run(main())


def test_a_directory_tells_when_what_it_shows_has_come_to_rest(tmp_path: Path) -> None:
    told: list[int] = []
    directory = SiteDirectory(tmp_path / "sites.d", lambda: told.append(1))
    assert not directory.check()

    (tmp_path / "sites.d").mkdir()
    file = tmp_path / "sites.d" / "nas.conf"
    file.write_text("half")
    assert not directory.check()
    file.write_text("half of it, and the rest")
    assert not directory.check()
    assert directory.check()
    assert not directory.check()
    file.unlink()
    assert not directory.check()
    assert directory.check()
    (tmp_path / "sites.d" / "nas.conf~").write_text("what an editor left")
    assert not directory.check()
    assert not directory.check()
