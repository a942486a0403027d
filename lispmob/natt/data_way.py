"""Finds out whether data reaches the RTR of an uplink, and by which of its ports; pure.

A register confirms UDP port 4342. Data goes to port 4341, and some networks drop that port. Others, with a pool of
public addresses, give it another outside address than the register has, so the RTR takes the data for a stranger's.
Neither shows in a confirmed register. Therefore the RTR is asked where it sees our data come from, on both ports:

    node : 4341 -> NAT -> RTR : 4341     Info-Request in data (Instance-ID 0xFFFFFF)     -> Info-Reply in data
    node : 4341 -> NAT -> RTR : 4342     the same                                        -> the same, from port 4342

| answered on     | outside addresses | data                                                            |
| 4341            | equal             | goes to 4341                                                    |
| 4342 alone      |                   | goes to 4342, in the flow of the registers                      |
| both            | different         | the same                                                        |
| neither         |                   | is lost, if this RTR has answered before and confirms registers |

An RTR of another implementation answers neither. It never did, so nothing follows from that. On port 4342 a data packet
is recognised by its first four bits, which are zero; our hub passes it to its datapath (control_port/steering.py).

An uplink in the open that gets no data to its peers asks an RTR that it is offered. An answer on 4342 alone shows that
the network drops the data; if peers do not get it, either, the uplink uses that RTR.

A round of questions belongs to a doubt: data is unanswered, the RTR says that it does not know us, or data has come in
for a while, which says nothing about the other direction. An idle uplink asks nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple

from lispmob.natt.effect import DataPort, SendFromDataPort
from lispmob.protocol.effect import Count, Event
from lispmob.protocol.locator_set import LocalLocator
from lispmob.wire.address import IpAddress
from lispmob.wire.data_header import CONTROL_INSTANCE_ID, DataHeader
from lispmob.wire.header import CONTROL_PORT, DATA_PORT
from lispmob.wire.info import InfoReply, InfoRequest
from lispmob.wire.ip_udp import build_ip_udp

ANSWER_S: Final = 0.5  # ours: then the questions are repeated; late answers count
SHORTEST_S: Final = 0.3  # ours: the same where the round trip is short
RTT_FACTOR: Final = 3.0
TRIES: Final = 3  # ours: after these an answer on 4342 alone suffices, and an unknown RTR is left alone
TRIES_IN_ALL: Final = 6  # ours: with a tenth lost each way, all of them are lost once in 20,000 rounds
REST_S: Final = 1.0  # ours: between two rounds
LOOK_S: Final = 3.0  # ours: between two rounds while data comes in
POKES: Final = 3  # ours: a NAT that has changed its address once causes one or two
POKED_S: Final = 10.0  # ours: within this time
UNHEARD_S: Final = 10.0  # ours: how long it counts that a peer gets no data from here
SUSPECT_S: Final = 5.0  # ours: how often peers are asked
SHUT_S: Final = 600.0  # ours: after this time an RTR that answers no question, and did not know us, is tried again

_HEADER: Final = DataHeader(instance_id=CONTROL_INSTANCE_ID).encode()
PORTS: Final = (DATA_PORT, CONTROL_PORT)


class Fault(Enum):
    """What is wrong with data to port 4341."""

    FILTERED = "filtered"  # it does not get there
    OTHER_ADDRESS = "other-address"  # it gets there from another outside address than the registers


class _Asked(NamedTuple):
    port: int
    at: float


class DataWay:
    """The evidence for one uplink and the RTR that it uses."""

    def __init__(self, locator: LocalLocator, *, new_nonce: Callable[[], int]) -> None:
        self._locator = locator
        self._new_nonce = new_nonce
        self._rtr: IpAddress | None = None
        self._port = DATA_PORT
        self.fault: Fault | None = None
        self.is_shut = False  # data reaches the RTR by neither port
        self._answering: set[IpAddress] = set()  # RTRs that have answered such a question, ever
        self._tried: dict[int, IpAddress] = {}  # nonce -> the spare RTR that was asked
        self._asked: dict[int, _Asked] = {}  # by nonce, of this round
        self._rtt_s: float | None = None  # of the last answer
        self._places: dict[int, IpAddress | None] = {}  # port -> our outside address there, of this round
        self._tries = 0
        self._wake_at: float | None = None
        self._ended_at = float("-inf")
        self._wanted_at: float | None = None  # a doubt that waits for its round
        self._look_at: float | None = None  # when to see whether data comes in
        self._is_confirmed = False  # a register, since the round began
        self._pokes: list[float] = []  # when the RTR did not know us although a register was confirmed before
        self._was_confirmed = False  # since the last of these
        self._shut_at = float("-inf")

    @property
    def rtr(self) -> IpAddress | None:
        """The RTR that data goes to."""
        return self._rtr

    def port_to(self, rtr: IpAddress) -> int:
        """The port of this RTR that gets our data."""
        return self._port if rtr == self._rtr else DATA_PORT

    @property
    def wants_register(self) -> bool:
        """True when only a register can show that the RTR itself works."""
        is_in_vain = self._wake_at is not None and not self._places and self._rtr in self._answering
        return is_in_vain and not self._is_confirmed and self._tries > 1

    def wake_at(self) -> float | None:
        """When to call on_timer."""
        times = (self._wake_at, self._wanted_at, self._look_at)
        return min((at for at in times if at is not None), default=None)

    def on_confirmed(
        self, rtr: IpAddress, now: float, spares: Iterable[IpAddress] = ()
    ) -> list[SendFromDataPort | Count | Event]:
        """A register through this RTR is confirmed. The first one begins a round; so does each while data is shut out,
        since no data can show that it gets through again.

        `spares`: RTRs that may be used later. They are asked once, to know whether they answer such questions.
        """
        is_other = self._choose(rtr)
        self._is_confirmed = self._was_confirmed = True
        if not is_other:
            return self._begin(now) if self.is_shut and self._is_rested(now, LOOK_S) else []
        return [*self._begin(now), *(effect for spare in spares for effect in self._try(spare))]

    def on_open(self, rtr: IpAddress, now: float) -> list[SendFromDataPort | Count | Event]:
        """Data of an uplink without an RTR is unanswered. Whether this RTR would get it shows what the network does."""
        self._choose(rtr)
        return self.on_doubt(now)

    def on_heard_in_the_open(self, rtr: IpAddress, now: float) -> list[SendFromDataPort | Count | Event]:
        """Data came in at an uplink without an RTR."""
        self._choose(rtr)
        return self.on_heard(now)

    def on_doubt(self, now: float) -> list[SendFromDataPort | Count | Event]:
        """Our data is unanswered."""
        if self._rtr is None or self._wake_at is not None:
            return []
        if now < self._ended_at + REST_S:
            self._wanted_at = self._ended_at + REST_S
            return []
        return self._begin(now)

    def on_heard(self, now: float) -> list[SendFromDataPort | Count | Event]:
        """Data came in. What we send may be lost all the same, so that the RTR is asked now and then while it comes."""
        if self._rtr is None:
            return []
        if not self._is_rested(now, LOOK_S):
            self._look_at = self._look_at or max(now, self._ended_at) + LOOK_S
            return []
        self._look_at = now + LOOK_S  # the daemon tells what was heard before it calls on_timer
        return self._begin(now, PORTS if self.fault is not None else PORTS[:1])

    def on_poked(self, now: float) -> list[SendFromDataPort | Count | Event]:
        """The RTR got data from us, and does not know us where it came from."""
        if self._was_confirmed:
            self._pokes = [at for at in self._pokes if now < at + POKED_S] + [now]
            self._was_confirmed = False
        asked = self.on_doubt(now)
        if len(self._pokes) < POKES or self._rtr is None or self._rtr in self._answering:
            return asked  # the answers tell more
        self._pokes.clear()
        return [*asked, *self._judge(DATA_PORT, Fault.OTHER_ADDRESS, is_shut=True, now=now)]

    def on_info_reply(self, reply: InfoReply, source: IpAddress, now: float) -> list[Event] | None:
        """The RTR's answer; None when it answers no question of ours."""
        if self._tried.get(reply.nonce) == source:
            self._answering.add(source)
            return []
        asked = self._asked.get(reply.nonce)
        if asked is None or source != self._rtr:
            return None
        port, self._rtt_s = asked.port, now - asked.at
        self._answering.add(source)
        outside = reply.nat.global_etr_rloc
        self._places[port] = outside if isinstance(outside, IPv4Address | IPv6Address) else None
        if self._places.keys() == {asked.port for asked in self._asked.values()}:
            return self._end(now)
        if self._wake_at is None:  # it is late
            return self._conclude(now)
        return []

    def on_timer(self, now: float) -> list[SendFromDataPort | Count | Event]:
        """A deadline may have passed."""
        if self._look_at is not None and now >= self._look_at:
            self._look_at = None
        if self._wanted_at is not None and now >= self._wanted_at and self._wake_at is None:
            return self._begin(now)
        if self._wake_at is None or now < self._wake_at:
            return []
        is_known = self._rtr in self._answering
        if self._tries < TRIES or (is_known and not self._places and self._tries < TRIES_IN_ALL):
            return self._ask(now)
        return [*self._end(now)]

    def stop(self) -> None:
        """The uplink uses no RTR, or another one. What a former one answered is remembered."""
        self._rtr, self._port, self.fault, self.is_shut = None, DATA_PORT, None, False
        self._wake_at = self._wanted_at = self._look_at = None
        self._tried.clear()
        self._asked.clear()
        self._places.clear()
        self._pokes.clear()
        self._is_confirmed = self._was_confirmed = False
        self._ended_at = float("-inf")

    def _choose(self, rtr: IpAddress) -> bool:
        """True if it is another RTR than before."""
        if rtr == self._rtr:
            return False
        self.stop()
        self._rtr = rtr
        return True

    def _is_rested(self, now: float, rest_s: float) -> bool:
        return self._wake_at is None and now >= self._ended_at + rest_s

    def _begin(self, now: float, ports: tuple[int, ...] = PORTS) -> list[SendFromDataPort | Count | Event]:
        self._asked.clear()
        self._places.clear()
        self._tries, self._wanted_at, self._is_confirmed = 0, None, False
        return self._ask(now, ports)

    def _ask(self, now: float, ports: tuple[int, ...] = PORTS) -> list[SendFromDataPort | Count | Event]:
        assert self._rtr is not None
        self._tries += 1
        self._wake_at = now + (ANSWER_S if self._rtt_s is None else self._patience_s(self._rtt_s))
        effects: list[SendFromDataPort | Count | Event] = []
        for port in ports:
            if port not in self._places:
                nonce = self._new_nonce()
                self._asked[nonce] = _Asked(port, now)
                effects += [self._question(self._rtr, port, nonce), Count("tx_data_way")]
        return effects

    @staticmethod
    def _patience_s(rtt_s: float) -> float:
        return min(ANSWER_S, max(SHORTEST_S, RTT_FACTOR * rtt_s))

    def _try(self, spare: IpAddress) -> list[SendFromDataPort | Count | Event]:
        """Ask a spare RTR, unless it has answered before."""
        if spare in self._answering:
            return []
        nonce = self._new_nonce()
        self._tried[nonce] = spare
        return [self._question(spare, DATA_PORT, nonce), Count("tx_data_way")]

    def _question(self, rtr: IpAddress, port: int, nonce: int) -> SendFromDataPort:
        own, message = self._locator, InfoRequest(nonce, None, 0).encode()
        known_as = own.name_towards(rtr)
        inner = build_ip_udp(known_as, CONTROL_PORT, rtr, CONTROL_PORT, message)
        return SendFromDataPort(_HEADER + inner, rtr, port, own.address, own.ifindex, DataPort.FIXED)

    def _end(self, now: float) -> list[Event]:
        self._wake_at, self._ended_at = None, now
        return self._conclude(now)

    def _conclude(self, now: float) -> list[Event]:
        """The verdict by the answers of this round."""
        if DATA_PORT in self._places and CONTROL_PORT in self._places:
            is_same = self._places[DATA_PORT] == self._places[CONTROL_PORT]
            fault = None if is_same else Fault.OTHER_ADDRESS
            return self._judge(DATA_PORT if is_same else CONTROL_PORT, fault, is_shut=False, now=now)
        if DATA_PORT in self._places:
            return self._judge(DATA_PORT, None, is_shut=False, now=now)
        if CONTROL_PORT in self._places:
            return self._judge(CONTROL_PORT, Fault.FILTERED, is_shut=False, now=now)
        if self._rtr in self._answering and self._is_confirmed and self._tries >= TRIES_IN_ALL:
            return self._judge(DATA_PORT, Fault.FILTERED, is_shut=True, now=now)
        if self.is_shut and self._rtr not in self._answering and now >= self._shut_at + SHUT_S:
            return self._judge(DATA_PORT, None, is_shut=False, now=now)
        return []

    def _judge(self, port: int, fault: Fault | None, *, is_shut: bool, now: float) -> list[Event]:
        if is_shut and not self.is_shut:
            self._shut_at = now
        if (port, fault, is_shut) == (self._port, self.fault, self.is_shut):
            return []
        self._port, self.fault, self.is_shut = port, fault, is_shut
        return [
            Event(
                "data-way",
                {
                    "rloc": str(self._locator.address),
                    "interface": self._locator.interface,
                    "rtr": str(self._rtr),
                    "port": None if is_shut else port,
                    "fault": fault.value if fault is not None else None,
                },
            )
        ]


class Step(Enum):
    """What to do now."""

    NOTHING = "nothing"
    ASK_PEERS = "ask peers"
    CHANGED = "changed"  # `is_on` has changed


class Cut:
    """Whether an uplink in the open needs an RTR, because its network drops data and lets an RTR's control port pass.

    Neither witness suffices. An RTR that does not get our data at port 4341 may have a firewall of its own, and a peer
    that does not may be silent. So peers are asked while the RTR shows it, and both have to agree.
    """

    def __init__(self) -> None:
        self.is_on = False  # an RTR is needed
        self._unheard_at = self._asked_at = float("-inf")

    def on_unheard(self, now: float) -> None:
        """A peer that answers probes was found to get no data from here."""
        self._unheard_at = now

    def weigh(self, now: float, *, is_suspect: bool, is_refuted: bool) -> Step:
        """`is_suspect`: in the open, and an RTR gets our data at its control port alone. `is_refuted`: the RTR in use
        gets it at port 4341.
        """
        if self.is_on:
            return self._turn() if is_refuted else Step.NOTHING
        if not is_suspect:
            return Step.NOTHING
        if now < self._unheard_at + UNHEARD_S:
            return self._turn()
        if now < self._asked_at + SUSPECT_S:
            return Step.NOTHING
        self._asked_at = now
        return Step.ASK_PEERS

    def _turn(self) -> Step:
        self.is_on = not self.is_on
        return Step.CHANGED
