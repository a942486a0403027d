"""The hub's benchmark sends what nodes send, and counts the answers."""

from __future__ import annotations

import subprocess
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from lispmob.lab.bench.hub_nodes import HUB, KEY, Phase, _is_register, _nonce_in, register, relayed, request
from lispmob.lab.bench.hub_run import HubRun
from lispmob.lab.bench.results import Results
from lispmob.lab.cluster.scene import longest_gap_s
from lispmob.lab.process import ProcessFailed
from lispmob.lab.report import Machine
from lispmob.wire.auth import verify
from lispmob.wire.data_header import CONTROL_INSTANCE_ID, DataHeader
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.ip_udp import build_ip_udp
from lispmob.wire.map_register import MapRegister
from lispmob.wire.map_request import MapRequest

ITR = IPv4Address("127.0.0.3")


def test_a_register_is_what_lispd_sends_and_proves_itself() -> None:
    raw = register(7, 99)

    verify(raw, KEY)
    (record,) = MapRegister.decode(raw).records
    assert str(record.eid_prefix) == "10.0.0.7/32"


def test_a_request_asks_for_one_eid_and_names_who_asks() -> None:
    asked = MapRequest.decode(EncapsulatedControl.decode(request(7, 99, ITR)).message)

    assert asked.itr_rlocs == (ITR,)
    assert [str(record.eid_prefix) for record in asked.records] == ["10.0.0.7/32"]


@pytest.mark.parametrize(
    "message",
    [
        register(7, 99),
        relayed(7, 99),
        request(7, 99, ITR),
        DataHeader(instance_id=CONTROL_INSTANCE_ID).encode() + build_ip_udp(HUB, 4342, ITR, 4342, register(7, 99)),
    ],
)
def test_the_nonce_is_found_wherever_the_message_is(message: bytes) -> None:
    assert _nonce_in(message) == 99


def test_registers_and_questions_leave_from_their_own_sockets() -> None:
    assert [_is_register(datagram) for datagram in (register(7, 99), relayed(7, 99), request(7, 99, ITR))] == [
        True,
        True,
        False,
    ]


def test_an_answer_that_did_not_come_is_the_slowest_of_all() -> None:
    phase = Phase(sent=100, answered=99, seconds=2.0, round_trips_ms=[1.0] * 99)

    assert phase.per_s == 49.5
    assert phase.p99_ms == 1000.0
    assert Phase(sent=200, answered=200, seconds=1.0, round_trips_ms=[1.0] * 199 + [9.0]).p99_ms == 1.0


class FailingRun(HubRun):
    """A run in which one case fails, and the others are recorded."""

    def __init__(self, error: Exception) -> None:
        super().__init__(Results(Machine.here()), Path("unused"), {"": None})
        self._error, self.measured = error, list[str]()

    def _case(self, case: str, suffix: str, tree: Path | None, number: int, starts: tuple[int, ...]) -> None:
        if case == "latency":
            raise self._error
        self.measured.append(case)


@pytest.mark.parametrize("error", [ProcessFailed("no hub"), subprocess.TimeoutExpired("measure_core", 900.0)])
def test_what_could_not_be_measured_is_named_and_keeps_no_other_case_from_it(error: Exception) -> None:
    run = FailingRun(error)

    run.measure(["core", "latency", "start"], rounds=2)

    assert run.measured == ["core", "start"] * 2
    assert list(run.failed) == ["latency"]


@pytest.mark.parametrize(
    ("times", "gap_s"), [([], 6.0), ([10.1, 12.5, 13.0, 15.9], 2.9), ([10.1], 5.9), ([13.0, 13.1, 15.9], 3.0)]
)
def test_the_time_without_a_server_is_the_longest_gap_wherever_it_lies(times: list[float], gap_s: float) -> None:
    assert longest_gap_s(times, 10.0, 16.0) == pytest.approx(gap_s)
