"""What attackers, callers and local users may use up: none of them uses up what the others need."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from ipaddress import ip_address
from pathlib import Path

import pytest

from lispmob.flow.auth import Way
from lispmob.flow.caller import FLOW_PORT
from lispmob.flow.effect import SendFlowMessage
from lispmob.flow.limits import REQUESTS_OF_USER_BURST, REQUESTS_OF_USER_S, Limits, UserShare
from lispmob.flow.message import Kind, Message, decode, encode
from tests.open_directories import let_everybody_in

from .local import LocalFlows, free_port
from .world import A, B, Host, Network, pair

STRANGER = ip_address("10.1.0.66")


def request(host: Host, caller: object, number: int) -> list[Message]:
    """The holder's immediate answers to one REQUEST, the `number`-th of its caller."""
    message = Message(Kind.REQUEST, (number + 1).to_bytes(8), name="backup")
    way = Way(ip_address(str(caller)), 50_000, host.address, FLOW_PORT)
    effects = host.endpoint.on_control(encode(message), way, host.network.now)
    return [decode(effect.octets) for effect in effects if isinstance(effect, SendFlowMessage)]


def test_a_stranger_who_floods_leaves_cookies_for_the_callers_of_a_busy_name() -> None:
    _, _, b = pair(limits=Limits(flows_per_name=4, requests_s=1e5))
    for number in range(2):
        request(b, "10.1.0.7", number)
    for number in range(5000):
        request(b, STRANGER, number)

    (answer,) = request(b, A, 1)

    assert (answer.kind, answer.cookie is not None) == (Kind.WAIT, True)


def test_no_caller_alone_keeps_the_flows_of_a_name_from_the_others() -> None:
    limits = Limits()

    assert limits.flows_per_peer < limits.flows_per_name < limits.flows


def test_a_caller_fills_no_more_than_half_of_what_waits_for_a_program() -> None:
    network = Network()
    a, c, b = Host(network, A, "a"), Host(network, STRANGER, "c"), Host(network, B, "b")
    b.hold("backup", asks_program=True, backlog=8)

    for _ in range(8):
        c.call(B, "backup")
    network.run(0.2)
    a.call(B, "backup")
    network.run(0.2)

    callers = [str(asked.caller) for asked in b.asked]
    assert callers.count(str(STRANGER)) == 4
    assert callers.count(str(A)) == 1


def test_a_user_who_asks_all_the_time_waits_and_the_others_do_not() -> None:
    share = UserShare()
    for _ in range(REQUESTS_OF_USER_BURST):
        assert share.wait_s(1000, 5.0) == 0
        share.on_request(1000, 5.0)

    assert 0 < share.wait_s(1000, 5.0) <= 1 / REQUESTS_OF_USER_S + 1e-6
    assert share.wait_s(1001, 5.0) == share.wait_s(0, 5.0) == 0


ASK_OFTEN = """
import json, os, socket, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
one = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
one.connect(sys.argv[1])
for number in range(int(sys.argv[2])):
    one.send(json.dumps({"v": 1, "id": number, "method": "list"}).encode())
    assert json.loads(one.recv(65536))["id"] == number
print("all answered")
"""


@pytest.mark.ordinary_user
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_a_user_who_asks_more_often_than_that_gets_all_answers_all_the_same(tmp_path: Path) -> None:
    let_everybody_in(tmp_path)
    path = tmp_path / "flow.sock"
    often = [sys.executable, "-c", ASK_OFTEN, str(path), str(REQUESTS_OF_USER_BURST + 50)]

    async def main() -> str:
        flows = LocalFlows("127.0.0.2", path, free_port())
        try:
            return await asyncio.to_thread(subprocess.check_output, often, text=True, timeout=30)
        finally:
            flows.stop()

    assert asyncio.run(main()).strip() == "all answered"
