"""The page of a hub with a real client: shown to clients that have the token, and to no others."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import logging
import socket
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
from lispmob.hub.web.visitors import MOST, Visitors

TOKEN = "a token of this test"
PATIENCE_S = 1.0
NO_HEADERS: dict[str, str] = {}
COOKIES = {"Cookie": f'{COOKIE}="{TOKEN}"'}
HUB: dict[str, Any] = {"status": {"sites": 1}, "nodes": [{"eid": "<script>alert(1)</script>"}]}


class Answer(NamedTuple):
    """A response."""

    status: int
    headers: dict[str, str]
    text: str


class Served:
    """The page on an event loop of its own, and what it reads."""

    def __init__(self) -> None:
        self.reads = 0
        self.is_there = True
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._runner, self.port = self._do(Page(self._read, TOKEN, patience_s=PATIENCE_S).start("127.0.0.1", 0))

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

    def say(self, octets: bytes) -> socket.socket:
        """A connection that sends these octets."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        connection.sendall(octets)
        return connection

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


@pytest.mark.parametrize(
    "octets",
    [b"", b"GET / HTTP/1.1\r\nHost: 127", b"GET /hub.json HTTP/1.1\r\nHost: here\r\n\r\n", b"\x16\x03\x01\x02\x00\x01"],
    ids=["nothing", "half a request", "refused, and kept open", "TLS"],
)
def test_who_shows_no_token_is_let_go_after_a_while(served: Served, octets: bytes) -> None:
    with contextlib.suppress(ConnectionResetError), served.say(octets) as connection:
        connection.makefile("rb").read()  # until the page has ended it; otherwise the test fails after ten seconds

    assert served.ask("/hub.json", COOKIES).status == 200


def test_a_hundred_requests_that_do_not_end_keep_no_browser_from_looking(served: Served) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(MOST + 40):
            stack.enter_context(served.say(b"GET / HTTP/1.1\r\nHost: x"))

        assert served.ask("/hub.json", COOKIES).status == 200


def test_a_client_with_the_token_keeps_its_connection(served: Served) -> None:
    request = f"GET /hub.json HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\nCookie: {COOKIES['Cookie']}\r\n\r\n"
    with served.say(request.encode()) as connection:
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        with served.say(b"") as other, contextlib.suppress(ConnectionResetError):
            other.recv(1)  # the time of the unauthenticated client is over

        connection.sendall(request.encode())

        assert connection.recv(4096).startswith(b"HTTP/1.1 200")


def test_the_oldest_stranger_makes_room_and_who_has_the_token_never() -> None:
    visitors: Visitors[int] = Visitors(5.0)
    for number in range(MOST):
        assert visitors.on_open(number, float(number)) is None
    visitors.on_token(0)

    assert visitors.on_open(MOST, 100.0) == 1
    assert visitors.late(8.0) == [2, 3]
    assert visitors.wake_at() == 9.0
    for number in range(MOST + 1):
        visitors.on_token(number)
    visitors.on_close(0)
    assert len(visitors) == MOST - 3


def test_where_all_have_the_token_a_newcomer_is_not_let_in() -> None:
    visitors: Visitors[int] = Visitors()
    for number in range(MOST):
        visitors.on_open(number, 0.0)
        visitors.on_token(number)

    assert visitors.on_open(MOST, 1.0) == MOST
    assert visitors.wake_at() is None


@pytest.mark.parametrize(
    "octets",
    [
        b"GET / HTTP/1.1\r\nHost: %b\r\nHost: evil.example\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1.:1\r\n\r\n",
        b"GET http://evil.example/hub.json HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: %b\r\n\r\n",
        b"CONNECT evil.example:1 HTTP/1.1\r\nHost: %b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: %b\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n",
        b"GET / HTTP/1.1\r\nHost: %b\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
        b"GET /?token=%%ff%%fe HTTP/1.1\r\nHost: %b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: %b\r\nCookie: lisphub=\xff\xfe; lisphub=a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: %b\r\n" + b"X-A: b\r\n" * 20000 + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: %b\r\nX-A: " + b"b" * 5000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: %b\r\nCookie: lisphub=" + b"a" * 5000 + b"\r\n\r\n",
        b"GET /hub.json HTTP/1.0\r\nHost: %b\r\n\r\n",
        b"GET /hub.json HTTP/2.0\r\nHost: %b\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /hub.json HTTP/1.1\r\nHost: %b\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"GET /hub.json HTTP/1.1\r\nHost: %b\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        b"GET /hub.json HTTP/1.1\r\nHost: localhost.evil.example\r\n\r\n",
        b"GET /hub.json HTTP/1.1\r\nHost: %b@evil.example\r\n\r\n",
        b"GET /hub.json HTTP/1.1\r\nHost:\r\n\r\n",
        b"GET /?token=a&token=a+token+of+this+test HTTP/1.1\r\nHost: %b\r\n\r\n",
    ],
)
def test_whatever_is_sent_gets_a_refusal_and_no_line_in_a_log(
    served: Served, octets: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    host = f"127.0.0.1:{served.port}".encode()
    said = octets.replace(b"%b", host).replace(b"%%", b"%")
    with contextlib.suppress(ConnectionError), served.say(said) as connection:
        answer = connection.recv(4096)
        assert answer.split()[1].startswith(b"4") or b"100 Continue" in answer, answer

    assert served.reads == 0
    assert [record.name for record in caplog.records if record.name != "asyncio"] == []
    assert served.ask("/hub.json", COOKIES).status == 200


def test_who_has_the_token_gets_the_page_and_no_other_protocol(served: Served) -> None:
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}

    assert served.ask("/hub.json", {**COOKIES, **upgrade}).status == 200


def test_the_token_is_in_no_log_and_in_no_answer_but_its_cookie(
    served: Served, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    answers = [served.ask(f"{path}?token={'+'.join(TOKEN.split())}") for path in ("/", "/nothing", "/hub.json")]
    answers += [served.ask(path, COOKIES) for path in (*FILES, "/hub.json", "/nothing")]

    said = [caplog.text, *capfd.readouterr(), *(answer.text for answer in answers)]
    said += [value for answer in answers for name, value in answer.headers.items() if name != "Set-Cookie"]
    assert [text for text in said if TOKEN in text or "+".join(TOKEN.split()) in text] == []


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
def test_what_cannot_be_served_is_told_before_the_hub_is_asked(words: tuple[str, ...], why: str) -> None:
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
