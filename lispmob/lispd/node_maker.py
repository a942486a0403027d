"""Makes the core with this machine's randomness, and with a recorder if configured."""

from __future__ import annotations

from collections.abc import Callable
from secrets import SystemRandom, randbits
from typing import TYPE_CHECKING

from lispmob.control.itr_security import LispSecTools
from lispmob.control.node_config import NodeConfig
from lispmob.control.sealing.seal_config import SealTools
from lispmob.node.node import Node
from lispmob.node.sealed_node import SealedNode

if TYPE_CHECKING:  # loaded when needed, and not at every start
    from lispmob.recording.recorder import Tape


def make_node(
    config: NodeConfig,
    next_nonce: Callable[[], int],
    *,
    is_recorded: bool,
    lisp_sec: LispSecTools | None,
    seal: SealTools | None = None,
) -> tuple[Node, Tape | None]:
    """A node, and what records its inputs from the start on."""
    jitter = SystemRandom().random
    if not is_recorded and seal is not None:
        made = SealedNode(
            config,
            new_nonce=_new_nonce,
            jitter=jitter,
            next_nonce=next_nonce,
            lisp_sec=lisp_sec,
            seal=seal,
            prepares=True,
        )
        return made, None
    if not is_recorded:
        made_plain = Node(
            config, new_nonce=_new_nonce, jitter=jitter, next_nonce=next_nonce, lisp_sec=lisp_sec, prepares=True
        )
        return made_plain, None
    from lispmob.package_version import package_version
    from lispmob.recording.recorder import RecordedNode, Tape

    tape, version = Tape(), package_version()
    taped = RecordedNode(config, new_nonce=_new_nonce, jitter=jitter, next_nonce=next_nonce, tape=tape, version=version)
    return taped, tape


def _new_nonce() -> int:
    return randbits(64)
