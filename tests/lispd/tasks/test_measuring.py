"""What is measured about a NAT, and when: it is the binding of the control port."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from lispmob.lispd.tasks.measuring import Measuring
from tests.internet.test_return import Home


@pytest.mark.parametrize("by_other_port", [False, True])
def test_nothing_is_measured_while_the_map_server_was_asked_from_another_port(by_other_port: bool) -> None:
    traversal = Home().node.traversal
    (machine,) = traversal.machines
    assert machine.seen is not None
    machine.seen = replace(machine.seen, by_other_port=by_other_port)

    async def ports() -> int:
        measuring = Measuring(traversal, lambda _: True, lambda _: None)
        measuring.look(asyncio.get_running_loop().time())
        count = len(measuring.ports)
        measuring.close()
        return count

    assert asyncio.run(ports()) == (0 if by_other_port else 1)
