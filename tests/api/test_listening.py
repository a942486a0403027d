"""How a daemon creates its sockets in the file system, and what it does with a file that is already there."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from lispmob.api.listen import SocketRefusedError, listen_at

KINDS = [socket.SOCK_STREAM, socket.SOCK_SEQPACKET]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_socket_stays(tmp_path: Path, kind: int) -> None:
    place = tmp_path / "s"
    place.write_text("precious")

    with pytest.raises(SocketRefusedError, match="no socket stands here; remove it, or set flows"):
        listen_at(place, mode=0o600, kind=kind, setting="flows.socket")

    assert place.read_text() == "precious"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("other", KINDS)
def test_a_listening_daemon_is_left_alone_also_with_another_kind_or_a_full_queue(
    tmp_path: Path, kind: int, other: int
) -> None:
    place = tmp_path / "s"
    with socket.socket(socket.AF_UNIX, other) as first, socket.socket(socket.AF_UNIX, other) as waiting:
        first.bind(str(place))
        first.listen(0)
        waiting.connect(str(place))

        with pytest.raises(SocketRefusedError, match="another lisphub listens here"):
            listen_at(place, mode=0o600, kind=kind, program="lisphub", setting="control-socket")

        first.accept()[0].close()


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_dead_daemon_left_is_replaced_with_the_mode_that_is_wanted(tmp_path: Path, kind: int) -> None:
    place = tmp_path / "new" / "s"
    place.parent.mkdir()
    with socket.socket(socket.AF_UNIX, kind) as dead:
        dead.bind(str(place))

    with listen_at(place, mode=0o660, kind=kind) as listener:
        assert place.stat().st_mode & 0o777 == 0o660
        assert not listener.getblocking()
