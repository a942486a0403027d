"""The path MTUs of all paths that carry large packets: when each is probed, and the size that the datapath uses."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

import msgspec

from lispmob.control.path_mtu.search import PathMtu, State, Way
from lispmob.control.path_mtu.size_probe import SizeProbe
from lispmob.protocol.effect import Event, SendControl, UsePathMtu
from lispmob.wire.address import IpAddress
from lispmob.wire.header import MessageType

WAYS_MAX: Final = 4096  # ours: paths; those without large packets for longest are forgotten
AT_WORK_MAX: Final = 256  # ours: the others start when large packets are reported again
ANSWER_WITHIN_S: Final = 3.0  # ours: a later answer may be about another route
NONCES_MAX: Final = 8192

MtuEffect: TypeAlias = SendControl | UsePathMtu | Event


class _Asked(msgspec.Struct):
    way: Way
    size: int
    at: float


class _Known(msgspec.Struct):
    mtu: PathMtu
    probe: SizeProbe


class PathMtus:
    """`new_nonce` returns unpredictable numbers. Counts tx_size_probe, rx_size_probe_answer and mtu_reduced."""

    def __init__(self, *, new_nonce: Callable[[], int], counters: Counter[str]) -> None:
        self._new_nonce = new_nonce
        self._counters = counters
        self._links: dict[IpAddress, int] = {}
        self._ways: OrderedDict[Way, _Known] = OrderedDict()
        self._at_work: set[Way] = set()
        self._asked: OrderedDict[int, _Asked] = OrderedDict()

    def __getitem__(self, way: Way) -> PathMtu | None:
        """The state of a path; None as long as it has carried no large packet."""
        known = self._ways.get(way)
        return None if known is None else known.mtu

    @property
    def ways(self) -> Mapping[Way, PathMtu]:
        """The state of all paths, for display."""
        return {way: known.mtu for way, known in self._ways.items()}

    @property
    def in_use(self) -> list[UsePathMtu]:
        """The limits to install again after the datapath lost them: the uplinks have changed."""
        return [_use(way, known.mtu) for way, known in self._ways.items() if known.mtu.is_reduced]

    def wake_at(self) -> float | None:
        """When to call on_timer; None while nothing is probed."""
        times = [self._ways[way].mtu.wake_at() for way in self._at_work]
        return min((at for at in times if at is not None), default=None)

    def on_links(self, links: Mapping[IpAddress, int]) -> list[MtuEffect]:
        """Our addresses, each with the MTU of its uplink, have changed."""
        self._links = dict(links)
        effects: list[MtuEffect] = []
        for way, known in list(self._ways.items()):
            link = self._links.get(way.local)
            if link is None:
                self._forget(way)
            elif link != known.mtu.link_bytes:
                known.mtu.on_link(link)
                effects.append(UsePathMtu(*way, 0))
                self._settle(way)
        return effects

    def on_slept(self) -> list[MtuEffect]:
        """The host was suspended, and may be anywhere: start over."""
        effects: list[MtuEffect] = [UsePathMtu(*item[0], 0) for item in self._ways.items() if item[1].mtu.is_reduced]
        for way in list(self._ways):
            self._forget(way)
        self._asked.clear()
        return effects

    def on_large(self, way: Way, probe: SizeProbe, now: float) -> list[MtuEffect]:
        """Large packets are being sent on this path."""
        known = self._take(way, probe)
        if known is None:
            return []
        # A remote that had left all mappings has lost its limit in the datapath.
        again: list[MtuEffect] = [_use(way, known.mtu)] if known.mtu.is_reduced else []
        if len(self._at_work) >= AT_WORK_MAX and way not in self._at_work:
            return again
        return again + self._act(way, known.mtu.on_large, now)

    def on_silence(
        self, now: float, *, remote: IpAddress | None = None, local: IpAddress | None = None
    ) -> list[MtuEffect]:
        """Data to this locator, or from this address of ours, goes unanswered."""
        near = [way for way in self._ways if remote in (None, way.remote) and local in (None, way.local)]
        return [effect for way in near for effect in self._act(way, self._ways[way].mtu.on_doubt, now)]

    def on_too_big(self, way: Way, probe: SizeProbe, mtu_bytes: int, now: float) -> list[MtuEffect]:
        """An ICMP error about a packet of ours. The datapath has already applied it."""
        known = self._take(way, probe)
        if known is None:
            return []
        return self._act(way, lambda at: known.mtu.on_too_big(mtu_bytes, at), now)

    def on_claim(self, way: Way, probe: SizeProbe, now: float) -> list[MtuEffect]:
        """An unproven ICMP error: it causes a probe, and nothing else."""
        known = self._take(way, probe)
        return [] if known is None else self._act(way, known.mtu.on_claim, now)

    def on_refused(self, way: Way, probe: SizeProbe, mtu_bytes: int) -> None:
        """The uplink itself refused the size, and the datapath has lowered it."""
        if (known := self._take(way, probe)) is not None:
            known.mtu.on_refused(mtu_bytes)
            self._settle(way)

    def on_report(self, way: Way, probe: SizeProbe, mtu_bytes: int, source: str, now: float) -> list[MtuEffect]:
        """A packet was too big. `source`: "icmp" for a proven ICMP error, "unproven" for one that is not, "interface"
        for the uplink.
        """
        if source == "unproven":
            return self.on_claim(way, probe, now)
        if source == "icmp":
            return self.on_too_big(way, probe, mtu_bytes, now)
        self.on_refused(way, probe, mtu_bytes)
        return []

    def is_answer(self, payload: bytes) -> bool:
        """True for a Map-Reply with a nonce of ours; nothing else is checked."""
        return len(payload) >= 12 and payload[0] >> 4 == MessageType.MAP_REPLY and _nonce(payload) in self._asked

    def on_answer(self, payload: bytes, now: float) -> list[MtuEffect]:
        """A Map-Reply to a probe: its size passed."""
        asked = self._asked.pop(_nonce(payload))
        known = self._ways.get(asked.way)
        if known is None or now - asked.at > ANSWER_WITHIN_S:
            return []
        self._counters["rx_size_probe_answer"] += 1
        return self._act(asked.way, lambda at: known.mtu.on_answer(asked.size, at - asked.at, at), now)

    def on_timer(self, now: float) -> list[MtuEffect]:
        """A deadline may have passed."""
        while self._asked and now - next(iter(self._asked.values())).at > ANSWER_WITHIN_S:
            self._asked.popitem(last=False)
        return [effect for way in tuple(self._at_work) for effect in self._act(way, self._ways[way].mtu.on_timer, now)]

    def _act(self, way: Way, happen: Callable[[float], tuple[int, ...]], now: float) -> list[MtuEffect]:
        """Feed an event to a path; returns the probes that it wants, and any change."""
        known = self._ways[way]
        before = known.mtu.mtu_bytes
        sizes = happen(now)
        effects: list[MtuEffect] = [self._ask(way, known.probe, size, now) for size in sizes]
        if known.mtu.mtu_bytes != before:
            effects += [_use(way, known.mtu), _event(way, known.mtu)]
            self._counters["mtu_reduced"] += known.mtu.mtu_bytes < before
        self._settle(way)
        return effects

    def _ask(self, way: Way, probe: SizeProbe, size: int, now: float) -> SendControl:
        nonce = self._new_nonce()
        self._asked[nonce] = _Asked(way, size, now)
        if len(self._asked) > NONCES_MAX:
            self._asked.popitem(last=False)
        self._counters["tx_size_probe"] += 1
        return probe.packet(nonce, size)

    def _take(self, way: Way, probe: SizeProbe) -> _Known | None:
        """The path, created if necessary; None if the address is not ours."""
        known = self._ways.get(way)
        if known is not None:
            known.probe = probe
            self._ways.move_to_end(way)
            return known
        if (link := self._links.get(way.local)) is None:
            return None
        known = self._ways[way] = _Known(PathMtu(way.remote.version, link), probe)
        if len(self._ways) > WAYS_MAX:
            self._forget(next(iter(self._ways)))
        return known

    def _forget(self, way: Way) -> None:
        del self._ways[way]
        self._at_work.discard(way)

    def _settle(self, way: Way) -> None:
        if self._ways[way].mtu.state is State.IDLE:
            self._at_work.discard(way)
        else:
            self._at_work.add(way)


def _nonce(payload: bytes) -> int:
    return int.from_bytes(payload[4:12])


def _use(way: Way, mtu: PathMtu) -> UsePathMtu:
    return UsePathMtu(*way, mtu.mtu_bytes if mtu.is_reduced else 0)


def _event(way: Way, mtu: PathMtu) -> Event:
    pair = {"local": str(way.local), "rloc": str(way.remote)}
    return Event(
        "path-mtu",
        {**pair, "mtu_bytes": mtu.mtu_bytes, "uplink_bytes": mtu.link_bytes, "source": mtu.source.value},
    )
