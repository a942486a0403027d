"""An IPv6-only uplink, an IPv4-only Map-Server, and a NAT64 (RFC 6146) between them."""

from __future__ import annotations

from ipaddress import IPv6Network
from itertools import count

import pytest

from lispmob.hub.map_server.effect import Arrival
from lispmob.hub.map_server.info import InfoResponder
from lispmob.hub.map_server.site import Site, SiteTable
from lispmob.natt.info_exchange import InfoExchange, Seen
from lispmob.natt.natt_config import NattConfig
from lispmob.natt.server_knowledge import ServerKnowledge
from lispmob.natt.translation import Translation
from lispmob.protocol.effect import Count, SendControl
from lispmob.protocol.locator_set import LocalLocator
from lispmob.protocol.servers import MapServerPeer
from lispmob.wire.info import InfoReply
from tests.internet.network import ip
from tests.natt.world import EID, KEY, MAP_SERVER, RTR

OWN4, OWN6, TRANSLATED = ip("192.0.2.7"), ip("2001:db8:a::7"), ip("203.0.113.64")
SYNTHESIZED, SERVER6 = ip("64:ff9b::c633:6401"), ip("2001:db8:51::1")
PREFIX = IPv6Network("64:ff9b::/96")
BEYOND = LocalLocator(OWN6, 3, nat64=PREFIX)
NATIVE = LocalLocator(OWN4, 4)
HOST = ip("198.51.100.1")


def seen(own: object, server: object, as_seen: object, arrived_at: object) -> Seen:
    """What the node concludes from the Map-Server's answer, when the request arrives from and at these addresses."""
    nonces = count(1).__next__
    config = NattConfig((EID,), (MapServerPeer(server, KEY),))  # type: ignore[arg-type]
    locator = LocalLocator(own, 2, "wwan0", 1)  # type: ignore[arg-type]
    exchange = InfoExchange(locator, config, ServerKnowledge(), new_nonce=nonces, next_nonce=nonces)
    [question] = [one for one in exchange.start(0.0) if isinstance(one, SendControl)]
    hub = InfoResponder(SiteTable([Site("home", (EID,), (KEY,))]), (RTR,))
    arrival = Arrival(question.payload, as_seen, 4342, arrived_at)  # type: ignore[arg-type]
    [answer] = [effect for effect in hub.on_info_request(arrival, 0.0) if isinstance(effect, SendControl)]
    found = exchange.on_info_reply(InfoReply.decode(answer.payload), answer.payload, 0.1)
    assert not isinstance(found, Count), found
    return found


def test_the_translators_address_is_known_and_is_no_address_of_ours() -> None:
    found = seen(OWN6, SYNTHESIZED, TRANSLATED, MAP_SERVER)

    assert found.as_other_family == TRANSLATED
    assert (found.address, found.rtrs) == (None, ())


@pytest.mark.parametrize(
    ("own", "server", "as_seen", "arrived_at"),
    [(OWN4, MAP_SERVER, TRANSLATED, MAP_SERVER), (OWN4, MAP_SERVER, OWN4, MAP_SERVER), (OWN6, SERVER6, OWN6, SERVER6)],
    ids=["a NAT", "in the open", "IPv6 all the way"],
)
def test_without_a_change_of_family_nothing_is_said(
    own: object, server: object, as_seen: object, arrived_at: object
) -> None:
    assert seen(own, server, as_seen, arrived_at).as_other_family is None


@pytest.mark.parametrize("after", [[NATIVE], [], [BEYOND], [BEYOND, NATIVE]])
def test_what_came_before_a_move_is_still_known_by_its_sender(after: list[LocalLocator]) -> None:
    translation = Translation()
    translation.on_locators([BEYOND])
    translation.on_locators(after)

    assert list(translation.heard([(BEYOND.address, SYNTHESIZED)])) == [(BEYOND.address, HOST)]


def test_two_moves_later_it_is_a_sender_like_any_other() -> None:
    translation = Translation()
    for locators in ([BEYOND], [NATIVE], [NATIVE]):
        translation.on_locators(locators)

    assert list(translation.heard([(BEYOND.address, SYNTHESIZED)])) == [(BEYOND.address, SYNTHESIZED)]
