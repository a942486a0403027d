"""Observations while packets move: senders and receivers, silence, nonces, status bits, path MTUs."""

from __future__ import annotations

from typing import Any

from lispmob.datapath import _lispdp, marshal
from lispmob.datapath.marshal import Handle
from lispmob.datapath.model import NO_TRAFFIC, Heard, PathMtu, Traffic
from lispmob.wire.address import IpAddress

ffi: Any = _lispdp.ffi
lib: Any = _lispdp.lib


_KEPT_MAX = 1024
_TRAFFIC_USUAL = 1 << 10  # remotes
_TRAFFIC_MAX = 1 << 16  # more remotes than any node sends to


class Liveness:
    """Queries about traffic, and what must be observed and reported from now on."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    def mark_move(self) -> None:
        """The next set_uplinks is a move: TrafficResumed reports the first packet of each direction after it."""
        lib.lm_engine_mark_move(self._handle.c)

    def repeat_last(self) -> None:
        """The uplinks are others, and peers know: send the last TCP packet of each flow with another way again."""
        lib.lm_engine_repeat_last(self._handle.c)

    def heard(self) -> list[Heard]:
        """The locator pairs of deliveries since the last call. A pair may appear twice: proven, and not."""
        pairs = ffi.new("struct lm_heard[]", lib.LM_HEARD_MAX)
        count = lib.lm_engine_heard(self._handle.c, pairs)
        return [
            Heard(marshal.address(pairs[i].local), marshal.address(pairs[i].source), bool(pairs[i].is_proven))
            for i in range(count)
        ]

    def traffic(self) -> dict[IpAddress, Traffic]:
        """Traffic to and from each locator, or RTR, since a mapping names it."""
        for most in (_TRAFFIC_USUAL, _TRAFFIC_MAX):
            found = ffi.new("struct lm_traffic_with[]", most)
            count = lib.lm_engine_traffic(self._handle.c, found, most)
            if count < most:
                break
        counted: dict[IpAddress, Traffic] = {}
        for i in range(count):
            locator = marshal.address(found[i].address)
            counted[locator] = counted.get(locator, NO_TRAFFIC) + marshal.traffic(found[i])
        return counted

    def set_patience(
        self, locator: IpAddress, patience_s: float | None, one_sided_s: float = 0.0, head: IpAddress | None = None
    ) -> None:
        """Report Silent when packets to a locator in use go unanswered for this long; None: stop.

        `one_sided_s` applies if nothing has come from it for a while; never less than the other. A peer may answer from
        another locator: all with the same `head`, which is one of them, are also watched as a group.
        """
        address, first = marshal.one_address(locator), marshal.one_address(head)
        quick, slow = int((patience_s or 0.0) * 1e9), int(one_sided_s * 1e9)
        lib.lm_silence_set_patience(self._handle.c, address, quick, slow, first)

    def use_status_bits(self, *, accepts: bool, bits: int | None) -> None:
        """Whether to report changes of others' Locator-Status-Bits; and the bits to send in all data, or None."""
        lib.lm_status_bits_use(self._handle.c, accepts, bits is not None, bits or 0)

    def use_echo_nonce(self, echoes: bool) -> None:
        """Whether to return the nonces that others ask for, and report when ours come back; or ignore all of them."""
        lib.lm_echo_nonce_use(self._handle.c, echoes)

    def ask_echo(self, locator: IpAddress, nonce: int | None) -> bool:
        """Data to this locator asks for 24 bits until they come back (Echoed); None: stop. False: not possible."""
        address = marshal.one_address(locator)
        return bool(lib.lm_echo_nonce_ask(self._handle.c, address, nonce is not None, nonce or 0))

    def report_large(self, reports: bool) -> None:
        """Whether to report LargeSent, for each remote at most every two seconds."""
        lib.lm_path_mtu_report_large(self._handle.c, reports)

    def set_path_mtu(self, path: PathMtu) -> None:
        """Limit packets on this path, until the uplinks change, or no mapping names the remote."""
        local, remote = marshal.one_address(path.local), marshal.one_address(path.locator)
        lib.lm_path_mtu_set(self._handle.c, local, remote, path.port, path.mtu_bytes)

    def path_mtus(self) -> dict[IpAddress, int]:
        """The known outer path MTUs (octets) by locator: the smallest of our paths there."""
        found = ffi.new("struct lm_mtu[]", _KEPT_MAX)
        count = lib.lm_engine_mtus(self._handle.c, found, _KEPT_MAX)
        return marshal.smallest_mtus(found, count)
