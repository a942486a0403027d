"""A call without lispd: from a program to a holder that has a lispd."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lispmob import flow
from lispmob.flow import FlowError, NameNotFound, NoFlowDaemon, PeerGone, TimedOut, aio, client
from lispmob.flow.auth import Way
from lispmob.flow.message import Kind, Reason, decode, reason_word

from .local import LocalFlows, free_port

HOLDER = "127.0.0.3"


def with_holder(directory: Path, use: Callable[[LocalFlows, aio.Name, Callable[..., Any]], Any]) -> Any:
    """Call `use` with the holder's daemon, a name that it holds, and a function that calls it from another thread."""

    async def run() -> Any:
        holder = LocalFlows(HOLDER, directory / "holder", free_port())
        name = await aio.register("root-notes", path=holder.path)

        async def call(called: str = "root-notes", **wishes: Any) -> client.Flow:
            place = f"{called}@{HOLDER}"
            absent = directory / "absent"
            return await asyncio.to_thread(
                lambda: flow.allocate(place, path=absent, port=holder.service.flows.port, **wishes)
            )

        try:
            return await asyncio.wait_for(use(holder, name, call), 30)
        finally:
            await name.__aexit__(None, None, None)
            holder.stop()

    return asyncio.run(run())


@pytest.mark.parametrize("protocol", [0, 1])
def test_a_program_calls_a_literal_eid_by_itself(tmp_path: Path, protocol: int) -> None:
    async def use(_holder: LocalFlows, name: aio.Name, call: Callable[..., Any]) -> tuple[bytes, bytes, str]:
        out = await call(protocol=protocol, qos=flow.VOICE)
        out.send(b"hello")
        inner = await name.accept()
        there = await inner.recv()
        await inner.send(b"back")
        back = await asyncio.to_thread(out.recv, timeout=10)
        await asyncio.to_thread(out.close)
        reason = ""
        if protocol:
            with pytest.raises(PeerGone) as gone:
                await inner.recv()
            reason = gone.value.reason
        await inner.close()
        return there, back, reason

    assert with_holder(tmp_path, use) == (b"hello", b"back", "done" if protocol else "")


@pytest.mark.parametrize("protocol", [0, 1])
def test_a_program_with_asyncio_calls_a_literal_eid_by_itself(tmp_path: Path, protocol: int) -> None:
    async def use(holder: LocalFlows, name: aio.Name, _call: Callable[..., Any]) -> tuple[bytes, bytes, str]:
        port, absent = holder.service.flows.port, tmp_path / "absent"
        out = await aio.allocate(f"root-notes@{HOLDER}", protocol=protocol, path=absent, port=port)
        await out.send(b"hello")
        inner = await name.accept()
        there = await inner.recv()
        await inner.send(b"back")
        back = await out.recv()
        reason = ""
        if protocol:
            await inner.close()
            with pytest.raises(PeerGone) as gone:
                await out.recv()
            reason = gone.value.reason
        await out.close()
        await inner.close()
        return there, back, reason

    assert with_holder(tmp_path, use) == (b"hello", b"back", "done" if protocol else "")


def test_a_call_of_asyncio_that_is_cancelled_is_taken_back(tmp_path: Path) -> None:
    async def use(holder: LocalFlows, _name: aio.Name, _call: Callable[..., Any]) -> int:
        port = holder.service.flows.port
        call = aio.allocate("nobody@127.0.0.9", path=tmp_path / "absent", port=port, timeout=20)
        asking = asyncio.create_task(call)
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking])
        with pytest.raises(NameNotFound):
            await aio.allocate(f"nobody@{HOLDER}", path=tmp_path / "absent", port=port)
        return int(asking.cancelled())

    assert with_holder(tmp_path, use) == 1


def test_the_end_of_the_peer_is_heard_and_what_came_before_it_is_read(tmp_path: Path) -> None:
    async def use(_holder: LocalFlows, name: aio.Name, call: Callable[..., Any]) -> tuple[bytes, str]:
        out = await call()
        inner = await name.accept()
        await inner.send(b"last words")
        await inner.close()
        while not out.connection.ended:
            await asyncio.sleep(0.01)
            try:
                out.connection.look(0)
            except TimedOut:
                continue
        last = out.recv(timeout=10)
        with pytest.raises(PeerGone) as gone:
            out.recv(timeout=10)
        out.close()
        return last, gone.value.reason

    assert with_holder(tmp_path, use) == (b"last words", "done")


def test_a_refusal_is_told_as_by_lispd(tmp_path: Path) -> None:
    async def use(_holder: LocalFlows, _name: aio.Name, call: Callable[..., Any]) -> str:
        with pytest.raises(NameNotFound) as refused:
            await call("printer")
        return str(refused.value)

    assert with_holder(tmp_path, use) == "no such name"


def test_a_program_that_listens_keeps_its_flow_alive(tmp_path: Path) -> None:
    async def use(holder: LocalFlows, name: aio.Name, call: Callable[..., Any]) -> bool:
        heard: list[Kind] = []
        endpoint = holder.service.endpoint
        original = endpoint.on_control

        def noting(octets: bytes, way: Way, now: float) -> Any:
            heard.append(decode(octets).kind)
            return original(octets, way, now)

        endpoint.on_control = noting  # type: ignore[method-assign]
        out = await call(lifetime=1)
        inner = await name.accept()
        listening = asyncio.create_task(asyncio.to_thread(out.recv, timeout=20))
        while Kind.ALIVE not in heard:  # noqa: ASYNC110 - nothing tells of it but this
            await asyncio.sleep(0.01)
        await inner.send(b"still there")
        is_alive: bool = await listening == b"still there"
        await asyncio.to_thread(out.close)
        await inner.close()
        return is_alive

    assert with_holder(tmp_path, use)


def test_an_absent_peer_is_told_within_the_time_that_was_given(tmp_path: Path) -> None:
    async def use(_holder: LocalFlows, _name: aio.Name, _call: Callable[..., Any]) -> str:
        with pytest.raises(FlowError) as failed:
            await asyncio.to_thread(
                lambda: flow.allocate("x@127.0.0.7", path=tmp_path / "absent", port=free_port(), timeout=1)
            )
        return type(failed.value).__name__

    assert with_holder(tmp_path, use) == "NoFlowDaemon"


@pytest.mark.parametrize("name", ["backup.nas", "@127.0.0.3", "backup@nas", "a\n@127.0.0.3"])
def test_without_lispd_only_a_literal_eid_is_called(tmp_path: Path, name: str) -> None:
    with pytest.raises(NoFlowDaemon, match="lispd takes no flows"):
        flow.allocate(name, path=tmp_path / "absent")


def test_an_uplink_cannot_be_chosen_without_lispd(tmp_path: Path) -> None:
    with pytest.raises(NoFlowDaemon):
        flow.allocate(f"backup@{HOLDER}", via=["eth0"], path=tmp_path / "absent")


def test_lispflow_needs_no_lispd_to_call(tmp_path: Path) -> None:
    async def use(holder: LocalFlows, name: aio.Name, _call: Callable[..., Any]) -> tuple[str, int | None]:
        command = [sys.executable, "-m", "lispmob.flow.cli", "--socket", str(tmp_path / "absent"), "call"]
        port = ["--port", str(holder.service.flows.port)]
        called = await asyncio.to_thread(
            lambda: subprocess.Popen(
                [*command, *port, f"root-notes@{HOLDER}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
        )
        inner = await name.accept()
        await inner.send(b"the time")
        await inner.close()
        said, _ = await asyncio.to_thread(called.communicate, timeout=20)
        return said.decode(), called.returncode

    assert with_holder(tmp_path, use) == ("the time", 0)


def test_every_reason_has_a_word() -> None:
    assert [reason_word(code) for code in (Reason.PROGRAM_ENDED, 99)] == ["program-ended", "99"]
