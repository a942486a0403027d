"""LISP-SEC in a hub: which One-Time-Keys it opens, what it vouches for, and what it forwards, without sockets."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from ipaddress import ip_address
from itertools import count
from typing import Any

import pytest
from msgspec.structs import replace

from lispmob.control.itr_security import LispSecTools
from lispmob.hub.dispatch import ControlPlane
from lispmob.hub.map_server import packed_part
from lispmob.hub.map_server.effect import Arrival
from lispmob.hub.map_server.lisp_sec import HubSecurity
from lispmob.hub.map_server.map_resolver import RemoteMapServer
from lispmob.hub.map_server.site import Site
from lispmob.hub.rtr.relayed import RtrPeer
from lispmob.hub.rtr.rtr import MapServerLink
from lispmob.hub.rtr.rtr_effect import Learned
from lispmob.hub.rtr.traversal import TraversalPolicy
from lispmob.protocol.effect import SendControl
from lispmob.protocol.servers import LispSecMode, ResolverSecret
from lispmob.wire import lisp_sec_auth
from lispmob.wire.address import DistinguishedName, IpAddress
from lispmob.wire.auth import Key
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.key_record import KeyRecord, take_key_record
from lispmob.wire.lisp_sec import EcmSecurity, EidAuthentication, MapReplySecurity
from lispmob.wire.lisp_sec_auth import NotGenuine
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import EidRecord, MapRequest
from lispmob.wire.reader import Reader
from lispmob.wire.record import Action
from tests.crypto.support import KEY_WRAP, needs_libcrypto
from tests.hub.exchange import HUB, KEY, ask, eid, events, sent, site, xtr

pytestmark = needs_libcrypto

OTK = bytes(range(16))
NONCE = 4711
ITR = "203.0.113.7"
ASKER = ip_address("10.1.0.1")
SECRET = lisp_sec_auth.resolver_secret(KEY.secret)
OTHER_KEY = Key(b"a key of the other site")
OTHER_HUB = ip_address("198.51.100.2")
SHARED = ResolverSecret(b"between hubs", 9)


def hub(*sites: Site, mode: LispSecMode = "prefer", remotes: Iterable[RemoteMapServer] = ()) -> ControlPlane:
    return ControlPlane(sites or (site("10.1.0.0/16"),), remotes, security=HubSecurity(mode, KEY_WRAP))


def protected(
    asked: str,
    *more: str,
    secret: bytes = SECRET,
    key_id: int = 0,
    source: IpAddress | None = ASKER,
    sender: str = ITR,
    itr: str = ITR,
    kdf_id: int = 2,
    **ad: Any,
) -> Arrival:
    records = tuple(EidRecord.of(eid(text)) for text in (asked, *more))
    request = MapRequest(NONCE, source, (ip_address(itr),), records)
    wrapped = lisp_sec_auth.wrapped_otk(KEY_WRAP, NONCE, secret, OTK)
    security = replace(EcmSecurity(2, key_id, 2, wrapped, EidAuthentication(kdf_id)), **ad)
    inner = EncapsulatedControl(ip_address("10.1.0.1"), 4342, eid(asked).address, 4342, request.encode())
    return Arrival(replace(inner, authentication=security.encode()).encode(), ip_address(sender), 4342, HUB)


def genuine(one: SendControl, hmac_id: int = 2, kdf_id: int = 2) -> tuple[MapReply, EidAuthentication]:
    reply = MapReply.decode(one.payload)
    return reply, lisp_sec_auth.verify_reply(one.payload, reply, OTK, hmac_id, kdf_id)


def vouched(eids: EidAuthentication) -> list[str]:
    return [f"{authorized_eid.eid}/{authorized_eid.mask_len}" for authorized_eid in eids.eids]


def test_a_proxy_reply_is_vouched_for_and_signed_by_the_map_server() -> None:
    plane = hub()
    plane.on_datagram(xtr("203.0.113.5").register("10.1.0.7/32"), now=0.0)

    (out,) = sent(plane.on_datagram(protected("10.1.0.7/32"), now=1.0))

    reply, eids = genuine(out)
    assert [str(record.eid_prefix) for record in reply.records] == ["10.1.0.7/32"]
    assert (vouched(eids), eids.has_e_bit) == (["10.1.0.7/32"], False)
    assert (str(out.destination), out.port) == (ITR, 4342)


def test_a_key_record_is_handed_out_under_lisp_sec_alone() -> None:
    plane, key = hub(), KeyRecord((bytes(range(32)),))
    plane.on_datagram(xtr("203.0.113.5").register("10.1.0.7/32", key=key), now=0.0)

    (out,) = sent(plane.on_datagram(protected("10.1.0.7/32"), now=1.0))
    (bare,) = sent(plane.on_datagram(ask("10.1.0.7/32"), now=2.0))

    reply, _ = genuine(out)
    assert take_key_record(reply.records[0])[1] == key
    assert take_key_record(MapReply.decode(bare.payload).records[0])[1] is None
    assert events(plane.on_datagram(xtr("203.0.113.5").register("10.1.0.8/32", key=key), now=3.0))[0].fields[
        "rlocs"
    ] == ["203.0.113.5"]


def test_a_node_that_asks_for_its_own_eid_is_answered_whether_it_has_a_key_or_not() -> None:
    plane = hub()
    plane.on_datagram(xtr(ITR).register("10.1.0.7/32", key=KeyRecord((bytes(32),))), now=0.0)
    (out,) = sent(plane.on_datagram(protected("10.1.0.7/32"), now=1.0))

    assert genuine(out)[0].records[0].locators[0].ip == ip_address(ITR)


def test_with_more_specific_records_the_widest_is_vouched_for_once() -> None:
    plane = hub()
    node = xtr("203.0.113.5")
    for prefix in ("10.1.2.0/24", "10.1.2.9/32"):
        plane.on_datagram(node.register(prefix), now=0.0)

    (out,) = sent(plane.on_datagram(protected("10.1.2.1/32"), now=1.0))

    reply, eids = genuine(out)
    assert len(reply.records) == 2
    assert vouched(eids) == ["10.1.2.0/24"]


def test_a_negative_answer_is_said_as_surely() -> None:
    (unregistered,) = sent(hub().on_datagram(protected("10.1.0.7/32"), now=1.0))
    (outside,) = sent(hub().on_datagram(protected("172.16.0.1/32"), now=1.0))

    for out in (unregistered, outside):
        reply, eids = genuine(out)
        (record,) = reply.records
        assert (record.locators, record.action) == ((), Action.NATIVELY_FORWARD)
        assert (vouched(eids), eids.has_e_bit) == ([str(record.eid_prefix)], False)


def test_an_etr_that_signs_is_asked_with_a_key_that_only_it_can_open() -> None:
    plane = hub()
    register = xtr("203.0.113.5").register("10.1.2.0/24", proxy_map_reply=False, has_lisp_sec=True)
    plane.on_datagram(register, now=0.0)

    (out,) = sent(plane.on_datagram(protected("10.1.2.7/32"), now=1.0))

    assert str(out.destination) == "203.0.113.5"
    ecm = EncapsulatedControl.decode(out.payload)
    assert ecm.authentication is not None
    security = EcmSecurity.take(Reader(ecm.authentication))
    assert (security.wrapping_id, security.requested_hmac_id, security.eid.kdf_id) == (2, 2, 2)
    assert vouched(security.eid) == ["10.1.2.0/24"]  # what is registered, not what was asked for
    assert security.eid == lisp_sec_auth.sign_eids(replace(security.eid, hmac=b""), OTK)
    unwrapped = lisp_sec_auth.unwrapped_otk(KEY_WRAP, NONCE, KEY.secret, security)
    assert unwrapped == lisp_sec_auth.ms_otk(OTK, 2) != OTK
    assert ecm.message == EncapsulatedControl.decode(protected("10.1.2.7/32").payload).message


def test_of_two_keys_of_a_site_that_which_the_etr_registered_with_wraps_for_it() -> None:
    second = Key(b"a second key of the site", key_id=1, algorithm=KEY.algorithm)
    plane = hub(Site("home", (eid("10.1.0.0/16"),), (KEY, second), accept_more_specifics=True))
    register = xtr("203.0.113.5", key=second).register("10.1.2.0/24", proxy_map_reply=False, has_lisp_sec=True)
    plane.on_datagram(register, now=0.0)

    (out,) = sent(plane.on_datagram(protected("10.1.2.7/32"), now=1.0))

    security = EcmSecurity.take(Reader(EncapsulatedControl.decode(out.payload).authentication or b""))
    assert security.key_id == second.key_id
    assert lisp_sec_auth.unwrapped_otk(KEY_WRAP, NONCE, second.secret, security) == lisp_sec_auth.ms_otk(OTK, 2)


def test_after_a_restart_it_is_known_who_signs() -> None:
    plane, restarted = hub(), hub()
    register = xtr("203.0.113.5").register("10.1.2.0/24", proxy_map_reply=False, has_lisp_sec=True)
    plane.on_datagram(register, now=0.0)
    rows = [
        (prefix, tuple(map(packed_part.without_key, registration.parts)))
        for prefix, registration in plane.map_server.registrations
    ]

    restarted.restore(rows, now=0.0)
    (out,) = sent(restarted.on_datagram(protected("10.1.2.7/32"), now=1.0))

    assert str(out.destination) == "203.0.113.5"


def test_no_etr_that_signs_is_said_by_the_map_server_under_its_hmac() -> None:
    plane = hub()
    plane.on_datagram(xtr("203.0.113.5").register("10.1.2.0/24", proxy_map_reply=False), now=0.0)

    (out,) = sent(plane.on_datagram(protected("10.1.2.7/32"), now=1.0))

    reply, eids = genuine(out)
    (record,) = reply.records
    assert (str(record.eid_prefix), record.locators, record.action) == ("10.1.2.0/24", (), Action.DROP)
    assert (vouched(eids), eids.has_e_bit) == (["10.1.2.0/24"], True)


def test_one_of_two_etrs_that_signs_is_asked_and_the_other_one_is_told_of() -> None:
    plane = hub()
    options: dict[str, Any] = {"proxy_map_reply": False, "wants_merge": True}
    plane.on_datagram(xtr("203.0.113.5", xtr_id=b"1" * 16).register("10.1.2.0/24", **options), now=0.0)
    signing = xtr("203.0.113.6", xtr_id=b"2" * 16).register("10.1.2.0/24", has_lisp_sec=True, **options)
    plane.on_datagram(signing, now=0.0)

    (out,) = sent(plane.on_datagram(protected("10.1.2.7/32"), now=1.0))

    assert str(out.destination) == "203.0.113.6"
    authentication = EncapsulatedControl.decode(out.payload).authentication
    assert authentication is not None
    assert EcmSecurity.take(Reader(authentication)).eid.has_e_bit


@pytest.mark.parametrize(("asked", "used"), [((1, 1), (1, 1)), ((2, 1), (2, 1)), ((0, 0), (2, 2)), ((9, 7), (2, 2))])
def test_algorithms_are_those_asked_for_or_the_ones_used_are_named(
    asked: tuple[int, int], used: tuple[int, int]
) -> None:
    hmac_id, kdf_id = asked

    (out,) = sent(hub().on_datagram(protected("10.1.0.7/32", requested_hmac_id=hmac_id, kdf_id=kdf_id), now=1.0))

    genuine(out, *used)


def test_a_secret_of_another_site_does_when_the_source_eid_is_of_none() -> None:
    two = (site("10.1.0.0/16"), site("10.5.0.0/16", name="other", key=OTHER_KEY))
    secret = lisp_sec_auth.resolver_secret(OTHER_KEY.secret)

    for source in (ip_address("10.5.0.1"), ip_address("192.0.2.200"), None):
        (out,) = sent(hub(*two).on_datagram(protected("10.1.0.7/32", secret=secret, source=source), now=1.0))
        genuine(out)


def test_a_sender_that_has_other_secrets_tried_all_the_time_leaves_tries_for_the_others() -> None:
    plane = hub()
    for _ in range(1000):
        plane.on_datagram(protected("10.1.0.7/32", secret=b"of nobody", source=None, sender="203.0.113.66"), now=1.0)

    (out,) = sent(plane.on_datagram(protected("10.1.0.7/32", source=None), now=1.0))

    genuine(out)


def test_other_secrets_are_tried_for_so_many_questions_and_no_more() -> None:
    plane = hub()
    questions = (protected("10.1.0.7/32", source=None, sender=f"203.0.113.{number}") for number in range(1, 60))

    answered = [out for question in questions for out in sent(plane.on_datagram(question, now=1.0))]

    assert 1 <= len(answered) <= 20
    assert plane.counters["rx_auth"] == 59 - len(answered)
    own = protected("10.1.0.7/32", sender="203.0.113.99", itr="203.0.113.99")
    assert sent(plane.on_datagram(own, now=1.0))  # one for its own site is tried


def test_where_the_operator_names_secrets_only_those_open() -> None:
    named = site("10.1.0.0/16", resolver_keys=(ResolverSecret(b"named", 4),))

    assert sent(hub(named).on_datagram(protected("10.1.0.7/32", secret=b"named", key_id=4), now=1.0))
    assert sent(hub(named).on_datagram(protected("10.1.0.7/32"), now=1.0)) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"secret": KEY.secret},  # the Map-Resolver's secret is not the registration key
        {"secret": b"of nobody"},
        {"wrapping_id": 1},
        {"wrapping_id": 0},
        {"eid": EidAuthentication(2, 2, (), bytes(16))},
    ],
)
def test_what_no_secret_opens_is_dropped_counted_logged_and_never_answered(wrong: dict[str, Any]) -> None:
    plane = hub()
    plane.on_datagram(xtr("203.0.113.5").register("10.1.0.7/32"), now=0.0)

    effects = plane.on_datagram(protected("10.1.0.7/32", **wrong), now=1.0)

    assert sent(effects) == []
    assert plane.counters["rx_auth"] == 1
    assert [event.kind for event in events(effects)] == ["auth-failed"]


def test_who_asks_without_is_answered_without() -> None:
    plane = hub()
    plane.on_datagram(xtr("203.0.113.5").register("10.1.0.7/32"), now=0.0)

    (out,) = sent(plane.on_datagram(ask("10.1.0.7/32"), now=1.0))

    assert MapReply.decode(out.payload).security is None


def test_required_who_asks_without_hears_that_he_is_refused_and_no_more() -> None:
    plane = hub(mode="require")
    plane.on_datagram(xtr("203.0.113.5").register("10.1.0.7/32"), now=0.0)

    (out,) = sent(plane.on_datagram(ask("10.1.0.7/32"), now=1.0))

    (record,) = MapReply.decode(out.payload).records
    assert (record.locators, record.action, str(record.eid_prefix)) == ((), Action.DROP_AUTH_FAILURE, "10.1.0.7/32")
    assert plane.counters["sec_missing"] == 1
    assert sent(plane.on_datagram(protected("10.1.0.7/32"), now=2.0))


def test_required_a_name_is_refused_as_well_for_nothing_proves_where_it_leads() -> None:
    plane = hub(site("10.1.0.0/16", names=("nas",)), mode="require")
    question = MapRequest(NONCE, None, (ip_address(ITR),), (EidRecord(DistinguishedName(b"nas"), 0),))
    ecm = EncapsulatedControl(ip_address(ITR), 4342, HUB, 4342, question.encode())

    (out,) = sent(plane.on_datagram(Arrival(ecm.encode(), ip_address(ITR), 4342, HUB), now=1.0))

    (record,) = MapReply.decode(out.payload).records
    assert (record.eid, record.locators, record.action) == (DistinguishedName(b"nas"), (), Action.DROP_AUTH_FAILURE)


@pytest.mark.parametrize("security", [HubSecurity("off", KEY_WRAP), HubSecurity("prefer", None)])
def test_without_it_a_hub_answers_as_one_that_does_not_know_it(security: HubSecurity) -> None:
    plane = ControlPlane([site("10.1.0.0/16")], security=security)

    (out,) = sent(plane.on_datagram(protected("10.1.0.7/32"), now=1.0))

    assert MapReply.decode(out.payload).security is None
    plane.on_datagram(xtr("203.0.113.5").register("10.1.2.0/24", proxy_map_reply=False), now=0.0)
    (passed_on,) = sent(plane.on_datagram(protected("10.1.2.7/32"), now=1.0))
    assert EncapsulatedControl.decode(passed_on.payload).authentication is None  # its key was for this hub
    with pytest.raises(ValueError, match="key wrap"):
        HubSecurity("require", None)


def test_between_two_hubs_the_key_is_wrapped_with_what_they_share() -> None:
    near = hub(remotes=[RemoteMapServer(OTHER_HUB, (eid("10.9.0.0/16"),), SHARED)])
    far = hub(site("10.9.0.0/16", name="far", key=OTHER_KEY), remotes=[RemoteMapServer(HUB, (), SHARED)])
    far.on_datagram(xtr("203.0.113.5", key=OTHER_KEY).register("10.9.0.7/32"), now=0.0)

    (passed_on,) = sent(near.on_datagram(protected("10.9.0.7/32"), now=1.0))
    arrival = Arrival(passed_on.payload, HUB, 4342, OTHER_HUB)
    (out,) = sent(far.on_datagram(arrival, now=1.0))

    assert passed_on.destination == OTHER_HUB
    assert OTK not in passed_on.payload
    assert str(out.destination) == ITR
    assert vouched(genuine(out)[1]) == ["10.9.0.7/32"]


def test_what_cannot_be_passed_on_with_lisp_sec_is_told_as_what_no_etr_can_sign() -> None:
    near = hub(remotes=[RemoteMapServer(OTHER_HUB, (eid("10.9.0.0/16"),))])

    (out,) = sent(near.on_datagram(protected("10.9.0.7/32"), now=1.0))
    (plain,) = sent(near.on_datagram(ask("10.9.0.7/32"), now=1.0))

    reply, eids = genuine(out)
    assert (eids.has_e_bit, reply.records[0].action, vouched(eids)) == (True, Action.DROP, ["10.9.0.7/32"])
    assert plain.destination == OTHER_HUB


def test_several_questions_in_one_are_vouched_for_in_one() -> None:
    plane = hub()
    plane.on_datagram(xtr("203.0.113.5").register("10.1.0.7/32"), now=0.0)
    plane.on_datagram(xtr("203.0.113.6").register("10.1.0.8/32"), now=0.0)

    (out,) = sent(plane.on_datagram(protected("10.1.0.7/32", "10.1.0.8/32"), now=1.0))

    assert vouched(genuine(out)[1]) == ["10.1.0.7/32", "10.1.0.8/32"]


def test_another_key_after_a_reload_opens_and_the_former_does_not() -> None:
    plane = hub()
    plane.on_sites([site("10.1.0.0/16", key=OTHER_KEY)], (), now=0.0)
    secret = lisp_sec_auth.resolver_secret(OTHER_KEY.secret)

    assert sent(plane.on_datagram(protected("10.1.0.7/32", secret=secret), now=1.0))
    assert sent(plane.on_datagram(protected("10.1.0.7/32"), now=1.0)) == []


def test_no_truncated_or_changed_authentication_gets_an_answer_that_passes_for_genuine() -> None:
    good = protected("10.1.0.7/32")
    authentication = EncapsulatedControl.decode(good.payload).authentication
    assert authentication is not None

    for place in range(4, 4 + len(authentication)):
        changed = good.payload[:place] + bytes((good.payload[place] ^ 0x41,)) + good.payload[place + 1 :]
        for out in sent(hub().on_datagram(replace(good, payload=changed), now=1.0)):
            reply = MapReply.decode(out.payload)
            assert reply.security is not None
            answered = MapReplySecurity.decode(reply.security)
            # Unassigned octets mean nothing. The answer names another algorithm, and the ITR refuses it.
            is_as_asked = (answered.packet_hmac_id, answered.eid.kdf_id) == (2, 2)
            assert is_as_asked or _is_refused(out.payload, reply)
    for end in range(4, 4 + len(authentication)):
        assert sent(hub().on_datagram(replace(good, payload=good.payload[:end]), now=1.0)) == []


def _is_refused(raw: bytes, reply: MapReply) -> bool:
    try:
        lisp_sec_auth.verify_reply(raw, reply, OTK, 2, 2)
    except NotGenuine:
        return True
    return False


def test_an_rtr_asks_a_map_server_elsewhere_with_a_secret_of_its_own_and_believes_nothing_else() -> None:
    key = Key(b"between RTR and Map-Server", key_id=5)
    tools = LispSecTools(KEY_WRAP, lambda: OTK)
    policy = TraversalPolicy(is_rtr=True, map_servers=(MapServerLink(HUB, key),), lisp_sec="require")
    rtr = ControlPlane((), traversal=policy, tools=tools, new_nonce=count(1).__next__)
    rtr.on_addresses([OTHER_HUB])
    there = ControlPlane(
        [site("10.1.0.0/16")],
        traversal=TraversalPolicy(rtrs=(RtrPeer(OTHER_HUB, key),)),
        security=HubSecurity("require", KEY_WRAP),
    )
    there.on_datagram(xtr("203.0.113.5").register("10.1.0.7/32"), now=0.0)

    (asked,) = sent(rtr.traversal.on_miss(ip_address("10.2.0.1"), ip_address("10.1.0.7"), 0, 1.0))
    (answer,) = sent(there.on_datagram(Arrival(asked.payload, OTHER_HUB, 4342, HUB), now=1.0))
    bare = replace(MapReply.decode(answer.payload), security=None).encode()
    refused = rtr.on_datagram(Arrival(bare, HUB, 4342, OTHER_HUB), now=1.1)
    learned = rtr.on_datagram(Arrival(answer.payload, HUB, 4342, OTHER_HUB), now=1.2)

    assert [one for one in refused if isinstance(one, Learned)] == []
    assert rtr.counters["sec_missing"] == 1
    assert [str(one.prefix) for one in learned if isinstance(one, Learned)] == ["10.1.0.7/32"]


def test_a_key_id_that_only_one_side_was_given_is_no_obstacle() -> None:
    plane = hub(site("10.1.0.0/16", key=dataclasses.replace(KEY, key_id=3)))

    (out,) = sent(plane.on_datagram(protected("10.1.0.7/32", key_id=0), now=1.0))

    genuine(out)
