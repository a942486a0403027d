"""A real headless Chromium, controlled by the DevTools protocol over a WebSocket."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import Any, Final

import aiohttp

NAMES: Final = ("chromium", "chromium-browser", "google-chrome")
START_S: Final = 30.0


def why_no_browser() -> str | None:
    """What is missing, with the remedy; None: nothing."""
    if any(map(shutil.which, NAMES)):
        return None
    return "chromium is missing: install the Debian package chromium (80 MB)"


class Tab:
    """One page of the browser."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = count(1)
        self.alerts = 0

    async def do(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one command; returns its result."""
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            message = await asyncio.wait_for(self._socket.receive_json(), 20)
            if message.get("method") == "Page.javascriptDialogOpening":
                self.alerts += 1
            if message.get("id") == number:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result

    async def open(self, address: str, width: int, height: int, *, is_phone: bool = False) -> None:
        """Show a page on a screen of this size."""
        await self.do("Page.enable")
        await self.do(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if is_phone else 1,
            mobile=is_phone,
        )
        await self.do("Page.navigate", url=address)

    async def ask(self, script: str) -> Any:
        """The value of a JavaScript expression; waits for a promise."""
        done = await self.do("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        return done["result"].get("value")

    async def until(self, script: str, what: str, patience_s: float = 15.0) -> None:
        """Return once the expression is true."""
        deadline = asyncio.get_running_loop().time() + patience_s
        while not await self.ask(script):
            assert asyncio.get_running_loop().time() < deadline, f"not within {patience_s:g} s: {what}"
            await asyncio.sleep(0.05)

    async def text(self) -> str:
        """The text that a reader sees."""
        return str(await self.ask("document.body.innerText"))

    async def picture(self, path: Path) -> None:
        """Write a picture of the page."""
        shown = await self.do("Page.captureScreenshot", format="png")
        await asyncio.to_thread(path.write_bytes, base64.b64decode(shown["data"]))


@contextlib.asynccontextmanager
async def browser() -> AsyncIterator[Tab]:
    """A running browser, with an empty page."""
    program = next(found for name in NAMES if (found := shutil.which(name)) is not None)
    with tempfile.TemporaryDirectory(prefix="lispmob-browser-", ignore_cleanup_errors=True) as directory:
        command = (
            program,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            f"--user-data-dir={directory}",
            "--remote-debugging-port=0",
            "about:blank",
        )
        running = await asyncio.create_subprocess_exec(
            *command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            port = await _port(Path(directory) / "DevToolsActivePort")
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://127.0.0.1:{port}/json") as answer:
                    page = next(target for target in await answer.json() if target["type"] == "page")
                async with session.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                    yield Tab(socket)
        finally:
            running.terminate()
            try:
                await asyncio.wait_for(running.wait(), 10)
            except TimeoutError:
                running.kill()
                await running.wait()


async def _port(path: Path) -> int:
    deadline = asyncio.get_running_loop().time() + START_S
    while True:
        with contextlib.suppress(OSError, ValueError, IndexError):
            return int((await asyncio.to_thread(path.read_text, "ascii")).splitlines()[0])
        assert asyncio.get_running_loop().time() < deadline, "the browser starts"
        await asyncio.sleep(0.05)
