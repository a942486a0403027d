"""Netlink sockets with the kernel of this host: listing and asking need no privileges."""

from __future__ import annotations

import errno
import socket
from itertools import islice

import pytest

from lispmob.netlink.connection import ask, command, dump, events, open_netlink, subscribe, whole
from lispmob.netlink.message import (
    FAMILIES,
    IFINFOMSG,
    NETLINK_ROUTE,
    RTM_DELRULE,
    RTM_GETADDR,
    RTM_GETLINK,
    RTM_NEWLINK,
    RTMSG,
    attributes,
)

IFLA_IFNAME = 3
EVERY_LINK = IFINFOMSG.pack(0, 0, 0, 0, 0)
LOOPBACK = IFINFOMSG.pack(0, 0, socket.if_nametoindex("lo"), 0, 0)


def name_in(body: bytes) -> bytes:
    return dict(attributes(body[IFINFOMSG.size :]))[IFLA_IFNAME].rstrip(b"\0")


def test_one_question_has_one_answer() -> None:
    with open_netlink() as kernel:
        answers = list(ask(kernel, RTM_GETLINK, 0, LOOPBACK))

    assert [name_in(answer) for answer in answers] == [b"lo"]


def test_a_refusal_is_an_error_with_its_number() -> None:
    with open_netlink() as kernel, pytest.raises(OSError, match=r".") as unknown:
        list(ask(kernel, RTM_GETLINK, 0, IFINFOMSG.pack(0, 0, 0x7FFFFFF0, 0, 0)))

    assert unknown.value.errno == errno.ENODEV


def test_a_command_that_is_refused_is_an_error_with_its_number() -> None:
    with open_netlink() as kernel, pytest.raises(OSError, match=r".") as malformed:
        command(kernel, RTM_DELRULE, 0, RTMSG.pack(FAMILIES[4], 33, 0, 0, 0, 0, 0, 0, 0))  # 33 bits of an IPv4 address

    assert malformed.value.errno in (errno.EINVAL, errno.EPERM)


def test_a_socket_can_be_asked_again_after_a_refusal() -> None:
    names = []
    with open_netlink() as kernel:
        for _ in range(3):
            with pytest.raises(OSError, match=r"."):
                list(ask(kernel, RTM_GETLINK, 0, IFINFOMSG.pack(0, 0, 0x7FFFFFF0, 0, 0)))
            names.append(name_in(next(ask(kernel, RTM_GETLINK, 0, LOOPBACK))))

    assert names == [b"lo"] * 3


def test_a_listing_may_be_left_before_its_end() -> None:
    first = [message.type for message in islice(dump(RTM_GETLINK, EVERY_LINK), 1)]

    assert first == [RTM_NEWLINK]
    assert b"lo" in [name_in(message.body) for message in whole(RTM_GETLINK, EVERY_LINK)]


def test_a_listing_that_is_refused_is_an_error() -> None:
    with pytest.raises(OSError, match=r"."):
        whole(RTM_GETADDR, bytes(2))


def test_a_subscriber_does_not_wait() -> None:
    with subscribe(NETLINK_ROUTE, (1, 5)) as kernel:
        assert events(kernel) is None
