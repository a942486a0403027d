"""To a caller that shares a key with a host every answer is signed, whichever name it calls. In virtual time."""

from __future__ import annotations

import pytest

from lispmob.flow.auth import FlowKey
from lispmob.flow.effect import Failure
from lispmob.flow.message import Reason, decode

from .world import A, B, Host, Network

KEY = FlowKey(7, b"sixteen octets at least")
OTHER = FlowKey(8, b"another key of sixteen octets")


def pair(shared: FlowKey | None = KEY) -> tuple[Network, Host, Host]:
    network = Network()
    a, b = Host(network, A, "a"), Host(network, B, "b", key_for=lambda _eid: shared)
    b.hold("backup")
    return network, a, b


def test_a_name_without_a_key_is_called_with_the_key_of_its_host() -> None:
    network, a, b = pair()

    flow = a.call(B, "backup", key=KEY)
    network.run(1.0)
    a.close(flow)
    network.run(5.0)

    assert flow in a.opened_at
    assert len(b.ended) == 1
    assert all(decode(octets).has_auth for _, octets, _ in network.sent)


@pytest.mark.parametrize(
    ("name", "failure", "code"),
    [("printer", Failure.NO_SUCH_NAME, Reason.NO_SUCH_NAME), ("forbidden", Failure.REFUSED, Reason.NOT_ALLOWED)],
)
def test_a_refusal_of_a_host_that_shares_our_key_is_believed(name: str, failure: Failure, code: Reason) -> None:
    network, a, b = pair()
    b.hold("forbidden", may_call=lambda _caller: False)

    a.call(B, name, key=KEY)
    network.run(1.0)

    assert [(failed.failure, failed.reason_code) for failed in a.failed] == [(failure, code)]


@pytest.mark.parametrize("shared", [None, OTHER])
def test_a_caller_that_signs_with_an_unshared_key_is_answered_without_one(shared: FlowKey | None) -> None:
    network, a, _b = pair(shared)

    a.call(B, "printer", key=KEY)
    network.run(12.0)

    assert a.failed[0].failure is Failure.TIMED_OUT
    assert not any(decode(octets).has_auth for _, octets, way in network.sent if way.source == B)


def test_a_caller_without_a_key_still_calls_names_without_one() -> None:
    network, a, _b = pair()

    flow = a.call(B, "backup")
    network.run(1.0)

    assert flow in a.opened_at
