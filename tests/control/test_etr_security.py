"""The ETR's side of LISP-SEC: what a node answers to a Map-Request that its Map-Server passed on."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from msgspec.structs import replace

from lispmob.control.itr_security import LispSecTools
from lispmob.node.node import Datagram, MapServerPeer, Node, NodeConfig
from lispmob.protocol.effect import SendControl
from lispmob.wire import lisp_sec_auth
from lispmob.wire.auth import Key
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.eid import from_prefix
from lispmob.wire.lisp_sec import AuthorizedEid, EcmSecurity, EidAuthentication
from lispmob.wire.map_register import MapRegister
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import EidRecord, MapRequest
from lispmob.wire.message import decode_control
from tests.control.support import EID, SERVER, WIFI, ip, only, prefix
from tests.crypto.support import KEY_WRAP, needs_libcrypto

pytestmark = needs_libcrypto

ITR_OTK = bytes(range(16))
MS_OTK = lisp_sec_auth.ms_otk(ITR_OTK, 2)
KEY = Key(b"a key", key_id=1)
NONCE = 77
ITR = ip("203.0.113.7")


def node(*, has_lisp_sec: bool = True) -> Node:
    peer = MapServerPeer(SERVER, KEY, proxy_map_reply=False, has_lisp_sec=has_lisp_sec)
    spare = MapServerPeer(ip("192.0.2.9"), Key(b"another key", key_id=1), has_lisp_sec=has_lisp_sec)
    config = NodeConfig((EID,), (spare, peer), (SERVER,))
    tools = LispSecTools(KEY_WRAP, lambda: bytes(16))
    machine = Node(config, new_nonce=count(1).__next__, jitter=lambda: 0.5, lisp_sec=tools)
    machine.on_locators([WIFI], 0.0)
    return machine


def eid_ad(*, kdf_id: int = 2, hmac_id: int = 2, has_e_bit: bool = False) -> EidAuthentication:
    eids = (AuthorizedEid(from_prefix(prefix("10.1.0.0/16")), 16),)
    return lisp_sec_auth.sign_eids(EidAuthentication(kdf_id, hmac_id, eids, b"", has_e_bit), ITR_OTK)


def asked(secret: bytes = KEY.secret, key_id: int = 1, eids: EidAuthentication | None = None, **ad: Any) -> bytes:
    wrapped = lisp_sec_auth.wrapped_otk(KEY_WRAP, NONCE, secret, MS_OTK)
    security = EcmSecurity(2, key_id, 2, wrapped, eids or eid_ad())
    return ecm(replace(security, **ad).encode())


def ecm(authentication: bytes | None) -> bytes:
    request = MapRequest(NONCE, ip("10.2.0.7"), (ITR,), (EidRecord.of(EID),))
    return EncapsulatedControl(
        ip("10.2.0.7"), 4342, EID.address, 4342, request.encode(), authentication=authentication
    ).encode()


def answer(machine: Node, payload: bytes) -> list[bytes]:
    effects = machine.on_datagram(Datagram(payload, SERVER, 4342, WIFI.address), 1.0)
    return [effect.payload for effect in only(effects, SendControl) if effect.payload[0] >> 4 == 2]


@pytest.mark.parametrize("has_e_bit", [False, True])
def test_the_answer_is_signed_and_repeats_the_map_server_s_word_as_it_came(has_e_bit: bool) -> None:
    (raw,) = answer(node(), asked(eids=eid_ad(has_e_bit=has_e_bit)))

    reply = MapReply.decode(raw)
    assert [record.eid_prefix for record in reply.records] == [EID]
    found = lisp_sec_auth.verify_reply(raw, reply, ITR_OTK, 2, 2)
    assert found == eid_ad(has_e_bit=has_e_bit)


def test_the_hmac_is_the_one_that_was_requested() -> None:
    (raw,) = answer(node(), asked(eids=eid_ad(hmac_id=1), requested_hmac_id=1))

    assert lisp_sec_auth.verify_reply(raw, MapReply.decode(raw), ITR_OTK, 1, 2).hmac_id == 1


def test_without_lisp_sec_it_is_answered_without() -> None:
    (raw,) = answer(node(), ecm(None))

    assert MapReply.decode(raw).security is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"secret": b"a key of nobody"},
        {"wrapping_id": 1},
        {"wrapping_id": 0},
        {"requested_hmac_id": 0},
        {"requested_hmac_id": 7},
        {"eids": EidAuthentication(2)},
        {"eids": replace(eid_ad(), hmac=bytes(11))},
        {"eids": replace(eid_ad(), eids=())},
    ],
)
def test_what_cannot_be_opened_or_makes_no_sense_is_dropped_and_counted(wrong: dict[str, Any]) -> None:
    machine = node()

    assert answer(machine, asked(**wrong)) == []
    assert machine.counters["rx_auth"] == 1


def test_switched_off_it_is_answered_as_by_one_who_does_not_know_it() -> None:
    (raw,) = answer(node(has_lisp_sec=False), asked())

    assert MapReply.decode(raw).security is None


@pytest.mark.parametrize("has_lisp_sec", [False, True])
def test_a_map_register_says_whether_we_sign(has_lisp_sec: bool) -> None:
    peer = MapServerPeer(SERVER, KEY, has_lisp_sec=has_lisp_sec)
    machine = Node(NodeConfig((EID,), (peer,)), new_nonce=count(1).__next__, jitter=lambda: 0.5)

    sent = only(machine.on_locators([WIFI], 0.0), SendControl)

    registers = [one for effect in sent if isinstance(one := decode_control(effect.payload), MapRegister)]
    assert [register.has_lisp_sec for register in registers] == [has_lisp_sec]


def test_a_key_id_that_only_one_side_was_given_is_no_obstacle() -> None:
    (raw,) = answer(node(), asked(key_id=9))

    assert lisp_sec_auth.verify_reply(raw, MapReply.decode(raw), ITR_OTK, 2, 2)
