"""What programs and the daemon say to each other, on loopback addresses that stand for EIDs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lispmob.flow import FlowError, NameNotFound, aio, client

from .local import LocalFlows, free_port


def with_flows(directory: Path, use: Callable[[LocalFlows], Any], **wishes: Any) -> Any:
    async def run() -> Any:
        flows = LocalFlows("127.0.0.2", directory / "flow.sock", free_port(), wishes=wishes)
        try:
            return await asyncio.wait_for(use(flows), 30)
        finally:
            flows.stop()

    return asyncio.run(run())


def test_a_call_to_an_unregistered_eid_fails_before_its_time_is_up(tmp_path: Path) -> None:
    async def use(flows: LocalFlows) -> str:
        with pytest.raises(NameNotFound) as failed:
            await aio.allocate("backup@127.0.0.9", path=flows.path, timeout=20)
        return str(failed.value)

    told = with_flows(tmp_path, use, is_absent=lambda eid: str(eid) == "127.0.0.9")

    assert told == "no site has registered the EID 127.0.0.9"


def test_many_flows_do_not_fill_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def use(flows: LocalFlows) -> None:
        name = await aio.register("backup", path=flows.path)
        for _ in range(40):
            out = await aio.allocate("backup", path=flows.path)
            inner = await name.accept()
            await out.__aexit__(None, None, None)
            await inner.__aexit__(None, None, None)
        await name.__aexit__(None, None, None)

    with caplog.at_level(logging.INFO, "lispmob.lispd.flows.service"):
        with_flows(tmp_path, use)

    lines = [record for record in caplog.records if record.name == "lispmob.lispd.flows.service"]
    assert 30 <= len(lines) <= 40


def test_root_takes_a_name_from_its_holder_which_is_told(tmp_path: Path) -> None:
    async def use(flows: LocalFlows) -> tuple[str, str, str]:
        first = await aio.register("backup", path=flows.path)
        with pytest.raises(FlowError) as refused:
            await aio.register("backup", path=flows.path)
        second = await aio.register("BACKUP", replace=True, path=flows.path)
        with pytest.raises(FlowError) as lost:
            await first.accept()
        out = await aio.allocate("backup", path=flows.path)
        inner = await second.accept()
        await out.send(b"to the second one")
        said = (await inner.recv()).decode()
        for one in (out, inner, first, second):
            await one.__aexit__(None, None, None)
        return str(refused.value), str(lost.value), said

    refused, lost, said = with_flows(tmp_path, use)

    assert "backup is held by" in refused
    assert lost == "another program holds backup now"
    assert said == "to the second one"


def test_a_program_that_blocks_hears_of_it_too(tmp_path: Path) -> None:
    async def use(flows: LocalFlows) -> str:
        first = await asyncio.to_thread(client.register, "backup", path=flows.path)
        waiting = asyncio.create_task(asyncio.to_thread(first.accept, 20))
        second = await aio.register("backup", replace=True, path=flows.path)
        with pytest.raises(FlowError) as lost:
            await waiting
        first.close()
        await second.__aexit__(None, None, None)
        return str(lost.value)

    assert with_flows(tmp_path, use) == "another program holds backup now"
