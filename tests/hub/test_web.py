"""The page of a hub, asked by a real client: who has the token sees it, and nobody else, however he asks."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from lispmob.errors import LispError, NotRunning
from lispmob.hub.cli import page
from lispmob.hub.cli.parser import build_parser
from lispmob.hub.web.guard import COOKIE, Guard, hosts_of
from lispmob.hub.web.server import FILES, Page

TOKEN = "a token of this test"
NO_HEADERS: dict[str, str] = {}
COOKIES = {"Cookie": f'{COOKIE}="{TOKEN}"'}
HUB: dict[str, Any] = {"status": {"sites": 1}, "nodes": [{"eid": "<script>alert(1)</script>"}]}


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    text: str


class Served:
    """The page on a loop of its own, and what it reads."""

    def __init__(self) -> None:
        self.reads = 0
        self.is_there = True
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._runner, self.port = self._do(Page(self._read, TOKEN).start("127.0.0.1", 0))

    def _do(self, main: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(main, self._loop).result(10)

    def _read(self) -> dict[str, Any]:
        self.reads += 1
        if not self.is_there:
            raise NotRunning("gone")
        return HUB

    def close(self) -> None:
        self._do(self._runner.cleanup())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def ask(
        self, path: str, headers: Mapping[str, str] = NO_HEADERS, *, method: str = "GET", body: bytes | None = None
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request(method, path, body, {"Host": f"127.0.0.1:{self.port}", **headers})
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.getheaders()), answer.read().decode())
        finally:
            connection.close()


@pytest.fixture
def served() -> Iterator[Served]:
    made = Served()
    yield made
    made.close()


def test_the_token_in_the_address_becomes_a_cookie_that_no_other_page_sends(served: Served) -> None:
    moved = served.ask("/?token=a+token+of+this+test")

    assert (moved.status, moved.headers["Location"]) == (303, "/")
    assert "HttpOnly" in moved.headers["Set-Cookie"]
    assert "SameSite=Strict" in moved.headers["Set-Cookie"]
    shown = served.ask("/", {"Cookie": moved.headers["Set-Cookie"].split(";")[0]})
    assert (shown.status, "<title>lisphub</title>" in shown.text) == (200, True)


@pytest.mark.parametrize(
    "path", ["//elsewhere.example/", "/%0d%0aSet-Cookie:%20x=1", "/%2f/elsewhere.example", "/x\\y"]
)
def test_the_token_leads_to_no_other_host_and_into_no_other_header(served: Served, path: str) -> None:
    moved = served.ask(f"{path}?token=a+token+of+this+test")

    assert (moved.status, moved.headers["Location"]) == (303, "/")


@pytest.mark.parametrize("path", [*FILES, "/hub.json", "/nothing"])
@pytest.mark.parametrize("headers", [{}, {"Cookie": f"{COOKIE}=guessed"}, {"Cookie": "x" * 500}])
def test_without_the_token_there_is_nothing_to_see(served: Served, path: str, headers: dict[str, str]) -> None:
    answer = served.ask(path, headers)

    assert answer.status == 401
    assert "it has the token" in answer.text
    assert served.reads == 0


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "localhost"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_page_of_another_origin_is_refused_even_with_the_token(served: Served, headers: dict[str, str]) -> None:
    answer = served.ask("/hub.json", {**COOKIES, **headers})

    assert answer.status == 403
    assert served.reads == 0


@pytest.mark.parametrize(("method", "body"), [("POST", b"x"), ("PUT", b"x" * 4000), ("GET", b"x"), ("DELETE", None)])
def test_it_takes_nothing_and_changes_nothing(served: Served, method: str, body: bytes | None) -> None:
    assert served.ask("/hub.json", COOKIES, method=method, body=body).status == 405
    assert served.reads == 0


@pytest.mark.parametrize("path", ["/" + "x" * 5000, "/?" + "token=a&" * 1000])
def test_a_request_that_is_too_long_is_refused_and_the_next_is_answered(served: Served, path: str) -> None:
    assert served.ask(path).status == 400
    assert served.ask("/hub.json", COOKIES).status == 200


def test_what_the_hub_says_comes_as_json_that_is_never_a_page(served: Served) -> None:
    answer = served.ask("/hub.json", COOKIES)

    assert json.loads(answer.text) == HUB
    assert answer.headers["Content-Type"].startswith("application/json")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


def test_the_page_sets_texts_and_no_markup_and_has_no_script_of_its_own() -> None:
    script, markup = (Path(page.__file__).parents[1] / "web" / name for name in ("page.js", "page.html"))

    assert all(
        word not in script.read_text() for word in ("innerHTML", "outerHTML", "insertAdjacent", "document.write")
    )
    assert "<script src=" in markup.read_text()
    assert all(word not in markup.read_text() for word in (" on", "<style", "javascript:", "http:"))


def test_however_many_look_the_hub_is_asked_once_a_second(served: Served) -> None:
    for _ in range(5):
        served.ask("/hub.json", COOKIES)

    assert served.reads <= 2


def test_a_hub_that_is_gone_is_told(served: Served) -> None:
    served.is_there = False

    assert json.loads(served.ask("/hub.json", COOKIES).text) == {"error": "lisphub does not run"}


def test_the_names_of_the_loopback_and_of_a_proxy_are_known() -> None:
    assert hosts_of("127.0.0.1", 8342) == {"127.0.0.1:8342", "localhost:8342"}
    assert hosts_of("::1", 80) == {"[::1]:80", "localhost:80", "[::1]", "localhost"}
    guard = Guard(TOKEN, hosts_of("127.0.0.1", 8342, frozenset({"Hub.Example"})))
    assert guard.why_refused({"Host": "hub.example", "Origin": "https://hub.example"}) is None
    assert guard.why_refused({"Host": "hub.example", "Origin": "https://hub.example:444"}) is not None
    assert not guard.is_token("ü")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--listen", "0.0.0.0:8342"), "say by which name browsers reach it"),
        (("--listen", "somewhere"), "no place to listen at"),
        (("--token-file", "/nowhere/token"), "No such file"),
    ],
)
def test_what_cannot_be_served_is_told_before_anybody_is_asked(words: tuple[str, ...], why: str) -> None:
    def read() -> dict[str, Any]:
        raise AssertionError

    with pytest.raises(LispError, match=why):
        page.run(build_parser().parse_args(["web", *words]), read)


@pytest.mark.parametrize(("text", "mode", "why"), [("x" * 20, 0o644, "every user can read"), ("short", 0o600, "16")])
def test_a_token_that_is_none_is_told(tmp_path: Path, text: str, mode: int, why: str) -> None:
    path = tmp_path / "token"
    path.write_text(text)
    path.chmod(mode)

    with pytest.raises(LispError, match=why):
        page.run(build_parser().parse_args(["web", "--token-file", str(path)]), dict)
