"""How much of the DNS server one user may take, and what is left for the others."""

from __future__ import annotations

from lispmob.names.shares import (
    CONNECTIONS,
    CONNECTIONS_OF_USER,
    NAMES_OF_USER_BURST,
    NAMES_OF_USER_S,
    WAITING,
    WAITING_OF_USER,
    Shares,
)


def test_a_user_asks_for_as_many_new_names_as_there_are_seconds_for() -> None:
    shares = Shares()
    names = [b"%d" % number for number in range(1000)]
    asked = [shares.wait(name, 1000, 0.0) for name in names[:100]]
    later = [shares.wait(name, 1000, 1.01) for name in names[100:200]]

    assert (sum(asked), sum(later)) == (NAMES_OF_USER_BURST, NAMES_OF_USER_S)
    assert shares.wait(names[500], 1001, 1.0)


def test_a_name_that_is_asked_for_already_costs_no_client_a_new_one() -> None:
    shares = Shares()
    for number in range(NAMES_OF_USER_BURST):
        shares.wait(b"%d" % number, 1000, 0.0)

    assert shares.wait(b"7", 1000, 0.0)
    shares.wait_no_more(b"7", 1000)
    shares.wait_no_more(b"7", 1000)
    assert not shares.wait(b"7", 1000, 0.0)


def test_users_together_have_no_more_than_there_is() -> None:
    shares = Shares()
    waits = [shares.wait(b"nas", user, 0.0) for _ in range(WAITING) for user in (1, 2, 3)]
    connects = [shares.connect(user) for _ in range(CONNECTIONS) for user in (1, 2, 3)]

    assert (sum(waits), sum(connects)) == (WAITING, CONNECTIONS)


def test_what_is_over_makes_room_for_the_same_user() -> None:
    shares = Shares()
    for _ in range(3):
        assert [shares.wait(b"nas", 7, 0.0) for _ in range(WAITING_OF_USER + 1)].count(False) == 1
        assert [shares.connect(7) for _ in range(CONNECTIONS_OF_USER + 1)].count(False) == 1
        for _ in range(WAITING_OF_USER):
            shares.wait_no_more(b"nas", 7)
        for _ in range(CONNECTIONS_OF_USER):
            shares.disconnect(7)


def test_users_whom_the_kernel_does_not_know_share_what_one_has() -> None:
    shares = Shares()

    assert [shares.wait(b"nas", None, 0.0) for _ in range(WAITING)].count(True) == WAITING_OF_USER
