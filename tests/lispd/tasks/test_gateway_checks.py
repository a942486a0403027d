"""Which events make lispd verify its gateways."""

from __future__ import annotations

import asyncio

import pytest

from lispmob.api.schema import Event
from lispmob.iface_monitor.gateway_trials import Gateway
from lispmob.lispd.tasks.gateway_checks import GatewayChecks


def event(kind: str, **fields: object) -> Event:
    return Event(kind=kind, at="2026-11-29T09:00:00Z", fields=dict(fields))


@pytest.mark.parametrize(
    ("news", "is_doubt"),
    [
        (event("register-sent", tries=1), False),
        (event("register-sent", tries=2), True),
        (event("register-timeout", tries=1), True),
        (event("rtr-failed", next=None), True),
        (event("rloc-unreachable"), True),
        (event("uplink-silent"), True),
        (event("registered", tries=3), False),
        (event("moved"), False),
    ],
    ids=lambda value: value.kind if isinstance(value, Event) else "",
)
def test_what_is_unanswered_raises_a_doubt_about_the_gateway_and_nothing_else_does(news: Event, is_doubt: bool) -> None:
    looked: list[Event] = []

    def gateways() -> list[Gateway]:
        looked.append(news)
        return []

    async def tell() -> None:
        checks = GatewayChecks(gateways)
        checks.on_event(news)
        checks.stop()

    asyncio.run(tell())

    assert bool(looked) is is_doubt
