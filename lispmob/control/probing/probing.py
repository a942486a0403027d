"""RLOC-Probing (RFC 9301, 7.1): which remote locators answer, over which local ones, how fast and how reliably.

A probe is a plain Map-Request with P=1 to the locator, from a local RLOC, which also gets the answer. Each pair of
locators is probed once, however many mappings share it. Only answers, and their absence, decide about a path: status
bits, ICMP errors and missing data just cause probes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeAlias

from lispmob.control.probing.outstanding import Asked, Outstanding
from lispmob.control.probing.path import Due, Pair, Path, ProbeConfig, State
from lispmob.control.probing.patience import Patience
from lispmob.protocol.agenda import Agenda
from lispmob.protocol.effect import (
    AskForEcho,
    Count,
    Event,
    PathChanged,
    ReachabilityChanged,
    SendControl,
    UplinkChanged,
    WatchForSilence,
)
from lispmob.protocol.locator_set import LocatorSet
from lispmob.protocol.rate_limit import KeyedBuckets, TokenBucket
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import EidRecord, MapRequest

__all__ = ["Pair", "Path", "PathChanged", "ProbeConfig", "Prober", "ReachabilityChanged", "UplinkChanged"]

PATHS_MAX: Final = 1024  # ours: 34 probes a second at the default interval
PROBE_INTERVAL_S: Final = 0.01  # ours: at most 100 probes a second in the long run
PROBE_BURST: Final = 64
FIRST_WITHIN_S: Final = 1.0  # ours: new locators are probed soon, but not all at once
ASK_BACK_S: Final = 2.0  # ours: how often a peer's probes cause a probe of a pair out of turn
PROVEN_S: Final = 3.0  # ours: how long data is accepted from an address that repeats the nonce of a probe (mappings.py)
NONCE_MASK: Final = 0xFFFFFF  # RFC 9300, 5.3: 24 bits in data
PATIENCE_CHANGE: Final = 0.05  # ours: smaller changes are not reported to the datapath


ProbeEffect: TypeAlias = (
    SendControl | AskForEcho | Event | Count | PathChanged | ReachabilityChanged | UplinkChanged | WatchForSilence
)


class Prober:
    """Probes every pair of local RLOCs and remote ones in use. `jitter()` is in [0, 1)."""

    def __init__(
        self, config: ProbeConfig, *, new_nonce: Callable[[], int], jitter: Callable[[], float], enabled: bool = True
    ) -> None:
        self._config = config
        self._is_enabled = enabled
        self._new_nonce = new_nonce
        self._jitter = jitter
        self._own = LocatorSet()
        self._targets: dict[IpAddress, EidPrefix] = {}
        self._paths: dict[Pair, Path] = {}
        self._proofs: dict[int | None, Path] = {}  # by the nonce of the last answered probe
        self._agenda: Agenda[Path] = Agenda()
        self._calm: Agenda[IpAddress] = Agenda()
        self._asked = Outstanding()
        self._unreachable: set[IpAddress] = set()
        self._silent: set[IpAddress] = set()  # local locators that are silent
        self._patience: dict[IpAddress, Patience] = {}
        self._echoes: set[IpAddress] = set()  # remotes whose data asks for an echo
        self._limit = TokenBucket(PROBE_INTERVAL_S, PROBE_BURST)
        self._asks_back: KeyedBuckets[Pair] = KeyedBuckets(ASK_BACK_S, limit=PATHS_MAX)
        self._doubted: set[Pair] = set()  # since `_doubted_at`: pairs over which peers probe us
        self._doubted_at = 0.0
        self._limited_until = float("-inf")

    @property
    def paths(self) -> tuple[Path, ...]:
        """All pairs, for display and for the choice by quality."""
        return tuple(self._paths.values())

    def path(self, local: IpAddress, remote: IpAddress) -> Path | None:
        """One pair."""
        return self._paths.get(Pair(local, remote))

    def is_reachable(self, remote: IpAddress) -> bool:
        """False only when every pair with this locator is down."""
        return remote not in self._unreachable

    @property
    def silent(self) -> frozenset[IpAddress]:
        """The local RLOCs that get no answers while others reach the same locators."""
        return frozenset(self._silent)

    @property
    def heard(self) -> frozenset[IpAddress]:
        """The local RLOCs that get answers. A doubt takes this away from none: only its verdict does."""
        return frozenset(path.pair.local for path in self._paths.values() if path.is_answered)

    @property
    def deaf(self) -> frozenset[IpAddress]:
        """The local RLOCs that are probed from and get no answer from any peer."""
        down = {path.pair.local for path in self._paths.values() if path.is_down}
        return frozenset(down - {path.pair.local for path in self._paths.values() if not path.is_down})

    def is_answered(self, remote: IpAddress) -> bool:
        """True when a pair with this locator is known to work."""
        return any(path.is_answered for path in self._of(remote))

    def is_target(self, remote: IpAddress) -> bool:
        """True for a locator in a mapping in use."""
        return remote in self._targets

    def wake_at(self) -> float | None:
        """When to call on_timer, in monotonic seconds; None while nothing is probed."""
        if self._doubted:
            return self._doubted_at
        due_at, calm_at = self._agenda.first() if self._paths else self._asked.first_loss_at(), self._calm.first()
        if due_at is None:
            return None
        due_at = max(due_at, self._limited_until)
        return due_at if calm_at is None else min(due_at, calm_at)

    def on_config(self, config: ProbeConfig, enabled: bool, now: float) -> list[ProbeEffect]:
        """The configuration was reloaded. Paths keep their state; a shorter interval applies from the next probe."""
        self._config, self._is_enabled = config, enabled
        return self._arrange(now)

    def on_locators(self, own: LocatorSet, now: float) -> list[ProbeEffect]:
        """Our RLOCs have changed."""
        self._own = own
        return self._arrange(now)

    def on_targets(self, targets: Mapping[IpAddress, EidPrefix], now: float) -> list[ProbeEffect]:
        """The remote locators of mappings in use, each with a prefix that it serves: only these are probed."""
        self._targets = dict(targets)
        for pair, path in self._paths.items():
            path.eid = self._targets.get(pair.remote, path.eid)
        effects = self._arrange(now)
        for remote, patience in self._patience.items():
            patience.told = None  # the datapath forgot a locator that was gone in between
            effects += self._tell_patience(remote)
        return effects

    def on_map_reply(self, reply: MapReply, arrived_at: IpAddress, now: float) -> list[ProbeEffect] | None:
        """A Map-Reply with P=1; None: its nonce is not ours. The nonce authenticates it, its source does not."""
        asked = self._asked.take(reply.nonce, now) if reply.is_probe else None
        if asked is None:
            return None
        path = asked.path
        if self._paths.get(path.pair) is not path or arrived_at not in self._own.addresses:
            return []
        was_down = path.is_down
        path.can_echo = reply.has_echo_nonce
        self._proofs.pop(path.proof, None)
        path.proof, path.proven_by = reply.nonce, None
        path.proven_at.clear()
        self._proofs[reply.nonce] = path
        path.on_answer(now - asked.sent_at, asked.is_lost, self._config, self._jitter(), now)
        lossy = self._on_outcome(asked, True, now)
        return [*self._changed(path, was_down), *self._tell_patience(path.pair.remote), *lossy]

    def proven(self, nonce: int, sender: IpAddress, now: float, *, is_named: bool) -> IpAddress | None:
        """The locator that was sent this nonce in the last probe that it answered.

        It counts for some seconds after a sender first repeats it, so an eavesdropper gains no more than that. Among
        senders that the mapping does not name (`is_named`), only the first counts.
        """
        path = self._proofs.get(nonce)
        if path is None or (not is_named and path.proven_by not in (None, sender)):
            return None
        if not is_named:
            path.proven_by = sender
        return path.pair.remote if now < path.proven_at.setdefault(sender, now) + PROVEN_S else None

    def on_heard(self, pairs: Iterable[tuple[IpAddress, IpAddress]], now: float) -> list[ProbeEffect]:
        """Data arrived over these pairs of a local RLOC and an outer source."""
        effects: list[ProbeEffect] = []
        for local, remote in pairs:
            for path in self._of(remote):
                if path.pair.local == local:
                    path.on_heard(self._config, now)
                else:
                    path.on_life_sign(self._config, now)
            effects += self._tell_patience(remote)
        return effects

    def on_echoed(self, local: IpAddress, remote: IpAddress, now: float) -> list[ProbeEffect]:
        """The nonce in data to `remote` came back in data to this local RLOC; the datapath has stopped asking."""
        self._echoes.discard(remote)
        if (path := self.path(local, remote)) is not None:
            path.on_echoed(self._config, self._jitter(), now)
        return []

    def on_unanswered(
        self, remote: IpAddress, is_flowing: bool, now: float, *, is_alone: bool = False
    ) -> list[ProbeEffect]:
        """Data to this locator has gone unanswered for longer than its timeout.

        `is_alone`: other locators of its peer were heard. Otherwise all are silent, and all adapt their timeouts.
        """
        learns = {remote} if is_alone or not is_flowing else {remote, *self._group_of(remote)}
        for learner in learns & self._patience.keys():
            self._patience[learner].on_alarm(is_flowing, now)
            self._calm.set(learner, self._patience[learner].calm_at)
        if remote in self._patience:
            self._patience[remote].told = None  # the datapath reports once, and must be asked to watch again
        for path in self._of(remote):
            path.on_unanswered(is_flowing, self._config, now)
        told = [effect for learner in sorted(learns - {remote}, key=_order) for effect in self._tell_patience(learner)]
        return [*self.on_timer(now), *told, *self._tell_patience(remote)]

    def on_suspicion(self, remotes: Iterable[IpAddress], is_flowing: bool, now: float) -> list[ProbeEffect]:
        """A locator near these is silent: probe them out of turn, so that no flow moves to a dead one."""
        for remote in remotes:
            for path in self._of(remote):
                path.on_unanswered(is_flowing, self._config, now)
        return self.on_timer(now)

    def on_probed(self, remote: IpAddress, at: IpAddress, now: float) -> list[ProbeEffect]:
        """A peer probes us, at `at`, perhaps because it is in doubt. Probe back over pairs without recent proof.

        The probes leave at once by on_timer. Report what data has proven before this call.
        """
        doubted = [path.pair for path in self._of(remote) if path.pair.local != at and path.is_unproven(now)]
        if doubted and not self._doubted:
            self._doubted_at = now
        self._doubted.update(doubted)
        return []

    def _ask_back(self, now: float) -> None:
        doubted, self._doubted = self._doubted, set()
        for path in [self._paths[pair] for pair in sorted(doubted, key=str) if pair in self._paths]:
            if path.is_unproven(now) and self._asks_back.take(path.pair, now):
                path.on_unanswered(False, self._config, now)

    def on_status_bits(self, fallen: Iterable[IpAddress], risen: Iterable[IpAddress], now: float) -> list[ProbeEffect]:
        """The owner's status bits say that these locators are down, or up again. Probe them; change nothing yet."""
        effects = [effect for remote in fallen for effect in self.on_hint(remote, "a status bit fell", now)]
        for remote in risen:
            for path in self._of(remote):
                path.on_life_sign(self._config, now)
        return effects + self.on_timer(now)

    def on_hint(self, remote: IpAddress, why: str, now: float) -> list[ProbeEffect]:
        """A status bit fell, an ICMP error arrived, or an echo is missing. The hint is not trusted: probe."""
        for path in self._of(remote):
            path.on_hint(why, now)
        return self.on_timer(now)

    def on_slept(self, now: float) -> list[ProbeEffect]:
        """The host was suspended: the state of all paths is unknown."""
        self._asked.clear()
        downs = [path for path in self._paths.values() if path.is_down]
        for path in self._paths.values():
            path.on_slept(now)
        return [effect for path in downs for effect in self._changed(path, was_down=True)]

    def on_timer(self, now: float) -> list[ProbeEffect]:
        """A deadline may have passed. Early and late calls are harmless."""
        effects = self._expire(now)
        self._ask_back(now)
        for remote in self._calm.due(now):
            patience = self._patience[remote]
            if patience.on_timer(now):
                effects += self._tell_patience(remote)
            if remote in self._patience:
                self._calm.set(remote, patience.calm_at)
        due = self._agenda.due(now)  # paths that the limit delayed come first
        for place, path in enumerate(due):
            while path.wake_at <= now:
                self._limited_until = self._limit.available_at(now)
                if self._limited_until > now:
                    self._put_off(due[place:])
                    return effects
                was_down = path.is_down
                due_now = path.on_due(self._config, self._jitter(), now, self._peer_heard_at(path))
                if due_now is Due.PROBE:
                    effects += self._probe(path, now)
                elif due_now is Due.ECHO and path.pair.remote not in self._echoes:
                    self._echoes.add(path.pair.remote)
                    effects.append(AskForEcho(path.pair.remote, self._new_nonce() & NONCE_MASK))
                effects += self._changed(path, was_down)
        return effects + self._end_echoes()

    def _put_off(self, paths: Iterable[Path]) -> None:
        """The limit delays these: they stay due."""
        for path in paths:
            if self._paths.get(path.pair) is path:
                self._agenda.set(path, path.wake_at)

    def _peer_heard_at(self, path: Path) -> float | None:
        """When data last came from any locator of the mapping, if that counts."""
        if not (self._config.echoes and path.can_echo):
            return None
        group = (sibling.last_heard for sibling in self._paths.values() if sibling.eid == path.eid)
        return max((at for at in group if at is not None), default=None)

    def _end_echoes(self) -> list[ProbeEffect]:
        """Stop requests for echoes that no path waits for any more."""
        over = [remote for remote in self._echoes if not any(path.is_asking for path in self._of(remote))]
        self._echoes.difference_update(over)
        return [AskForEcho(remote, None) for remote in over]

    def _arrange(self, now: float) -> list[ProbeEffect]:
        """Start new paths, and remove those that are gone."""
        wanted = self._wanted()
        effects: list[ProbeEffect] = []
        for pair in [pair for pair in self._paths if pair not in wanted]:
            path = self._paths.pop(pair)
            self._agenda.set(path, None)
            self._proofs.pop(path.proof, None)
        for pair, eid in wanted.items():
            if pair not in self._paths:
                self._paths[pair] = Path(pair, eid, now + self._jitter() * FIRST_WITHIN_S, self._agenda)
        remotes = {pair.remote for pair in self._paths}
        for remote in [remote for remote in self._patience if remote not in remotes]:
            del self._patience[remote]
            self._calm.set(remote, None)
            effects.append(WatchForSilence(remote, None))
        for remote in list(self._unreachable):
            effects += self._judge(remote)
        return effects + self._judge_own() + self._end_echoes()

    def _wanted(self) -> dict[Pair, EidPrefix]:
        wanted: dict[Pair, EidPrefix] = {}
        if not self._is_enabled:
            return wanted
        for remote, eid in self._targets.items():
            for own in self._own.for_family(remote.version):
                if len(wanted) == PATHS_MAX:
                    return wanted
                wanted[Pair(own.address, remote)] = eid
        return wanted

    def _probe(self, path: Path, now: float) -> list[ProbeEffect]:
        own = next((locator for locator in self._own.locators if locator.address == path.pair.local), None)
        assert own is not None, path.pair
        self._limit.take(now)
        nonce = self._new_nonce()
        self._asked.add(nonce, Asked(path, now, now + path.timeout_s(self._config)))
        request = MapRequest(
            nonce=nonce,
            source_eid=None,
            itr_rlocs=(own.address,),  # so that the answer comes back over the same pair
            records=(EidRecord.of(path.eid),),
            is_probe=True,
        )
        send = SendControl(request.encode(), path.pair.remote, source=own.address, ifindex=own.ifindex)
        return [send, Count("tx_probe")]

    def _expire(self, now: float) -> list[ProbeEffect]:
        """Count what was not answered in time."""
        effects: list[ProbeEffect] = []
        for asked in self._asked.expire(now):
            asked.path.quality.on_lost()
            effects += self._on_outcome(asked, False, now)
        return effects

    def _on_outcome(self, asked: Asked, is_answered: bool, now: float) -> list[ProbeEffect]:
        """Tell apart a path that loses packets all the time. A dead one is another matter."""
        path = asked.path
        if path.is_down or self._paths.get(path.pair) is not path:
            return []
        is_late = is_answered and asked.is_lost
        outcome = (asked.sent_at, now)
        if not (path.losses.on_late(*outcome) if is_late else path.losses.on_outcome(is_answered, *outcome)):
            return []
        kind = "path-lossy" if path.losses.is_lossy else "path-steady"
        loss = path.losses.loss(now)
        share = None if loss is None else round(loss.share, 3)
        return [Event(kind, {"local": str(path.pair.local), "rloc": str(path.pair.remote), "loss": share})]

    def _changed(self, path: Path, was_down: bool) -> list[ProbeEffect]:
        if path.is_down == was_down:
            return []
        is_up = not path.is_down
        quality = path.quality
        event = Event(
            "path-up" if is_up else "path-down",
            {
                "local": str(path.pair.local),
                "rloc": str(path.pair.remote),
                "why": path.why,
                "loss": quality.loss,
                "rtt_ms": None if quality.rtt_s is None else round(quality.rtt_s * 1000, 3),
            },
        )
        change = PathChanged(path.pair.local, path.pair.remote, is_up)
        return [event, change, *self._judge(path.pair.remote), *self._judge_own()]

    def _judge(self, remote: IpAddress) -> list[ProbeEffect]:
        paths = self._of(remote)
        is_dead = bool(paths) and all(path.is_down for path in paths)
        if is_dead == (remote in self._unreachable):
            return []
        (self._unreachable.add if is_dead else self._unreachable.discard)(remote)
        if is_dead:
            self._calm.set(remote, None)
            self._patience.pop(remote, None)  # the datapath forgets a locator that gets no data
        group = self._group_of(remote) & self._patience.keys()
        told = [
            effect for other in sorted(group, key=_order) for effect in self._tell_patience(other)
        ]  # another locator may lead their group now
        return [ReachabilityChanged(remote, not is_dead), *told]

    def _judge_own(self) -> list[ProbeEffect]:
        """An uplink may have a link and an address and still reach nothing. That all remotes died is less likely."""
        alive = {path.pair.remote for path in self._paths.values() if path.state is State.UP}
        by_local: dict[IpAddress, list[Path]] = {}
        for path in self._paths.values():
            by_local.setdefault(path.pair.local, []).append(path)
        silent = {
            local
            for local, paths in by_local.items()
            if all(path.is_down for path in paths) and any(path.pair.remote in alive for path in paths)
        }
        changed = sorted(silent ^ self._silent, key=int)
        self._silent = silent
        return [UplinkChanged(local, local not in silent) for local in changed]

    def _tell_patience(self, remote: IpAddress) -> list[ProbeEffect]:
        """Install the timeouts of a remote. The datapath watches each locator; the slowest working pair counts."""
        known = [path.quality.rtt_s for path in self._of(remote) if path.state in (State.UP, State.VERIFYING)]
        rtt_s = max((known_rtt_s for known_rtt_s in known if known_rtt_s is not None), default=None)
        if rtt_s is None:
            return []
        if remote not in self._patience:
            self._patience[remote] = Patience()
            others = sorted(self._group_of(remote) & self._patience.keys() - {remote}, key=_order)
            own = self._tell_patience(remote)
            # The group may be complete now.
            return own + [effect for other in others for effect in self._tell_patience(other)]
        patience = self._patience[remote]
        wanted, told = patience.of(rtt_s, self._config.timeout_s, self._config.interval_s), patience.told
        head = self._head_of(remote)
        is_known = told is not None and all(
            abs(a - b) <= PATIENCE_CHANGE * b for a, b in zip(wanted, told, strict=True)
        )
        if is_known and patience.head == head:
            return []
        patience.told, patience.head = wanted, head
        return [WatchForSilence(remote, *wanted, head)]

    def _head_of(self, remote: IpAddress) -> IpAddress | None:
        """The group leader of a peer: the first of its mapping's working locators; None: none, or not yet."""
        group = self._group_of(remote)
        if len(group) < 2 or group - self._patience.keys():
            return None  # one that is not watched yet may be the one that answers
        return min(group, key=_order)

    def _group_of(self, remote: IpAddress) -> set[IpAddress]:
        """The working locators that serve the same prefix, including this one."""
        eid = self._targets.get(remote)
        group = {other for other, served in self._targets.items() if served == eid and self.is_reachable(other)}
        return group & {pair.remote for pair in self._paths}

    def _of(self, remote: IpAddress) -> list[Path]:
        pairs = (Pair(own.address, remote) for own in self._own.locators if own.address.version == remote.version)
        return [path for pair in pairs if (path := self._paths.get(pair)) is not None]


def _order(address: IpAddress) -> tuple[int, int]:
    return address.version, int(address)
