from __future__ import annotations

import asyncio
from pathlib import Path

from lispmob.api.schema import Reloaded
from lispmob.config.node import NodeFile
from lispmob.config.reader import read_bytes
from lispmob.errors import ConfigError
from lispmob.lispd import reloading

BASE = "eids: [10.1.0.1/32]\nmap-servers: [{address: 198.51.100.1, key: a}]\n"


def read(text: str) -> NodeFile:
    return read_bytes(text.encode(), "lispd.conf", NodeFile, directory=Path())


def test_an_unchanged_file_changes_nothing() -> None:
    assert reloading.compare(read(BASE), read(BASE)) == ([], [])


def test_what_changed_is_named_as_in_the_file_and_what_waits_for_a_restart_too() -> None:
    new = read(BASE + "routing: {mode: full}\ntun: {name: lmn7}\nstate-dir: elsewhere\n")

    assert reloading.compare(read(BASE), new) == (["routing", "tun", "state-dir"], ["tun", "state-dir"])


def test_what_waits_for_a_restart_stays_as_it_was() -> None:
    merged = reloading.merge(read(BASE), read(BASE + "routing: {mode: full}\ntun: {name: lmn7}\n"))

    assert (merged.routing.mode, merged.tun.name) == ("full", "lmn0")


class Reloads:
    """Counts reloads, each of which takes a moment and reads the file when it begins."""

    def __init__(self) -> None:
        self.file = 0
        self.seen: list[int] = []

    async def __call__(self) -> Reloaded:
        self.seen.append(self.file)
        await asyncio.sleep(0.001)
        return Reloaded(changed=[str(self.seen[-1])], needs_restart=[])


def test_fifty_who_ask_for_a_reload_at_once_share_two_of_them() -> None:
    async def main() -> list[Reloaded]:
        seldom = reloading.Seldom(reloads, pause_s=0.02)
        return await asyncio.gather(*(seldom() for _ in range(50)))

    reloads = Reloads()
    answers = asyncio.run(main())

    assert len(answers) == 50
    assert len(reloads.seen) <= 2


def test_a_user_who_changes_the_file_and_reloads_gets_what_is_in_it() -> None:
    async def main() -> list[str]:
        seldom = reloading.Seldom(reloads, pause_s=0.01)
        answers = []
        for number in range(5):
            reloads.file = number
            answers.append(asyncio.create_task(seldom()))
            await asyncio.sleep(0.0005)
        return [(await answer).changed[0] for answer in answers]

    reloads = Reloads()

    assert all(int(seen) >= number for number, seen in enumerate(asyncio.run(main())))
    assert len(reloads.seen) <= 3


def test_an_error_in_the_file_is_told_to_every_client_that_asked() -> None:
    async def refuse() -> Reloaded:
        raise ConfigError("lispd.conf:1: no")

    async def main() -> list[object]:
        seldom = reloading.Seldom(refuse, pause_s=0.0)
        return list(await asyncio.gather(*(seldom() for _ in range(3)), return_exceptions=True))

    assert [type(one) for one in asyncio.run(main())] == [ConfigError] * 3
