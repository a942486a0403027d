"""The hub's page in a real Chromium: live, also on a telephone, and closed to pages of other origins.

SCREENSHOTS=DIRECTORY keeps pictures of it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from lispmob.errors import NotRunning
from lispmob.hub.web.server import Page
from tests.hub.web.browser import Tab, browser, why_no_browser

pytestmark = pytest.mark.skipif(why_no_browser() is not None, reason=why_no_browser() or "")

TOKEN = "a-token-of-this-test"
PHONE = (390, 844)


def node(site: str, eid: str, **more: Any) -> dict[str, Any]:
    return {
        "site": site,
        "eid": eid,
        "xtr_id": site,
        "way": "open",
        "rtrs": [],
        "rlocs": [{"address": "203.0.113.5"}],
        "heard_s": 12.0,
        "moves": 0,
        "since": 1_795_890_000.0,
        **more,
    }


def hub() -> dict[str, Any]:
    return {
        "status": {
            "sites": 4,
            "sites_registered": 3,
            "uptime_s": 93_784.0,
            "problems": [
                {
                    "subject": "10.99.0.4/32",
                    "text": "registered by two nodes: xtr-id 3f2a at 198.51.100.7, xtr-id 9c01 at 203.0.113.80",
                    "remedy": "one of them is a copy of the other: have it join again",
                }
            ],
            "last_moves": [
                {"at": 1_795_893_000.0, "site": "phone", "eid": "10.99.0.3/32", "rlocs": ["198.18.0.10"]},
                {"at": 1_795_892_000.0, "site": "laptop", "eid": "10.99.0.1/32", "rlocs": ["203.0.113.5"]},
            ],
        },
        "nodes": [
            node("laptop", "10.99.0.1/32", moves=7),
            node("laptop", "fd12:3456:789a::1/128", moves=7),
            node("nas", "10.99.0.2/32", rlocs=[{"address": "192.0.2.77"}]),
            node("phone", "10.99.0.3/32", way="rtr", rtrs=["198.51.100.1"], rlocs=[], heard_s=400.0),
        ],
    }


class Shown:
    """The page, a browser that shows it, and what the hub says."""

    def __init__(self, tab: Tab, address: str) -> None:
        self.tab, self.address = tab, address
        self.hub: dict[str, Any] | None = hub()

    def read(self) -> dict[str, Any]:
        if self.hub is None:
            raise NotRunning("gone")
        return self.hub

    async def open(self, width: int = 1000, height: int = 700, *, is_phone: bool = False) -> None:
        await self.tab.open(f"{self.address}/?token={TOKEN}", width, height, is_phone=is_phone)
        await self.tab.until("document.querySelectorAll('article').length > 0", "nodes are shown")

    async def keep(self, name: str) -> None:
        if (directory := os.environ.get("SCREENSHOTS")) is not None:
            await self.tab.picture(Path(directory) / name)


def run(scenario: Callable[[Shown], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(60), browser() as tab:
            shown = Shown(tab, "")
            runner, port = await Page(shown.read, TOKEN).start("127.0.0.1", 0)
            shown.address = f"http://127.0.0.1:{port}"
            try:
                await scenario(shown)
            finally:
                await runner.cleanup()

    asyncio.run(main())


def test_it_shows_nodes_problems_and_moves_and_changes_while_one_looks() -> None:
    async def scenario(shown: Shown) -> None:
        await shown.open()

        text = await shown.tab.text()
        assert "3 of 4 sites registered, up 1 d" in text
        assert "10.99.0.1/32, fd12:3456:789a::1/128" in text
        assert "behind a NAT, through the RTR 198.51.100.1" in text
        assert "have it join again" in text
        assert "token" not in await shown.tab.ask("location.href"), "it is in no history"
        await shown.keep("hub-page.png")

        assert shown.hub is not None
        shown.hub["nodes"].append(node("desktop", "10.99.0.9/32"))
        shown.hub["status"]["problems"] = []
        await shown.tab.until("document.body.innerText.includes('10.99.0.9/32')", "the new node is shown")
        assert await shown.tab.ask("document.getElementById('problems').hidden")

        shown.hub = None
        await shown.tab.until("document.body.innerText.includes('lisphub does not run')", "that the hub is gone")

    run(scenario)


def test_on_a_telephone_nothing_is_wider_than_the_screen_and_letters_can_be_read() -> None:
    async def scenario(shown: Shown) -> None:
        assert shown.hub is not None
        shown.hub["nodes"].append(
            node("a-name-that-is-as-long-as-names-of-hosts-can-be-" + "x" * 16, "2001:db8::1/128")
        )
        await shown.open(*PHONE, is_phone=True)
        await shown.keep("hub-page-phone.png")

        assert await shown.tab.ask("document.documentElement.clientWidth") == PHONE[0]
        assert await shown.tab.ask("document.documentElement.scrollWidth") <= PHONE[0]
        size = "Math.min(...[...document.querySelectorAll('p, li')].map(e => parseFloat(getComputedStyle(e).fontSize)))"
        assert await shown.tab.ask(size) >= 14
        widest = "Math.max(...[...document.querySelectorAll('article')].map(e => e.getBoundingClientRect().right))"
        assert await shown.tab.ask(widest) <= PHONE[0]

    run(scenario)


@pytest.mark.parametrize("text", ["<img src=x onerror=alert(1)>", "<script>alert(1)</script>", "&lt;b&gt;\u202e"])
def test_what_nodes_say_is_text_and_runs_nothing(text: str) -> None:
    async def scenario(shown: Shown) -> None:
        assert shown.hub is not None
        shown.hub["nodes"] = [node(text, text, rlocs=[{"address": text}])]
        shown.hub["status"]["problems"] = [{"subject": text, "text": text, "remedy": text}]
        shown.hub["status"]["last_moves"] = [{"at": None, "site": text, "eid": text, "rlocs": [text]}]

        await shown.open()

        assert await shown.tab.ask("document.querySelector('h3').textContent") == text
        assert await shown.tab.ask("document.querySelectorAll('main img, main script').length") == 0
        assert shown.tab.alerts == 0

    run(scenario)


def test_a_page_of_another_origin_in_the_same_browser_reads_nothing() -> None:
    async def scenario(shown: Shown) -> None:
        await shown.open()
        application = web.Application()

        async def other(_: web.Request) -> web.Response:
            return web.Response(text="<h1>other</h1>", content_type="text/html")

        application.router.add_get("/", other)
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            port = runner.addresses[0][1]
            await shown.tab.open(f"http://127.0.0.1:{port}/", 800, 600)
            await shown.tab.until("document.body.innerText.includes('other')", "the other page")
            script = (
                f"fetch('{shown.address}/hub.json', {{credentials: 'include'}})"
                ".then(answer => answer.text()).catch(error => 'refused')"
            )
            assert await shown.tab.ask(script) == "refused"
        finally:
            await runner.cleanup()

    run(scenario)


def test_without_the_token_there_is_a_sentence_and_no_figure() -> None:
    async def scenario(shown: Shown) -> None:
        await shown.tab.open(f"{shown.address}/", 800, 600)
        await shown.tab.until("document.body && document.body.innerText.includes('lisphub web')", "a sentence")
        assert "10.99" not in await shown.tab.text()

    run(scenario)
