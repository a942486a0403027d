"""Which One-Time-Keys were used: remembered for a day and over restarts, for each owner separately."""

from __future__ import annotations

from lispmob.hub.publishing.associations import KEPT_EACH, KEPT_MAX, KEPT_S, Associations


def key(number: int) -> bytes:
    return number.to_bytes(16)


def test_the_same_key_and_nonce_make_one_association_for_any_holder() -> None:
    kept = Associations()

    assert kept.take(key(1), 7, b"home", 0.0) is True
    assert kept.take(key(1), 7, b"home", 1.0) is False
    assert kept.take(key(1), 7, b"office", 1.0) is False
    assert kept.take(key(1), 8, b"home", 1.0) is True
    assert kept.take(key(2), 7, b"home", 1.0) is True


def test_a_day_later_it_is_forgotten_and_no_sooner() -> None:
    kept = Associations()
    kept.take(key(1), 7, b"home", 0.0)

    assert kept.take(key(1), 7, b"home", KEPT_S - 1) is False
    assert kept.take(key(1), 7, b"home", KEPT_S) is True
    assert len(kept) == 1


def test_a_node_with_endless_associations_uses_up_only_its_own_room() -> None:
    kept = Associations()
    made = [kept.take(key(number), 7, b"evil", 0.0) for number in range(KEPT_EACH + 10)]

    assert made == [True] * KEPT_EACH + [None] * 10
    assert kept.take(key(1), 7, b"evil", 1.0) is False, "what he has used is refused as ever"
    assert kept.take(key(KEPT_EACH + 20), 7, b"home", 1.0) is True
    assert kept.take(key(KEPT_EACH + 30), 7, b"evil", KEPT_S) is True


def test_all_of_them_are_bounded() -> None:
    kept = Associations()
    for number in range(KEPT_MAX + 10):
        kept.take(key(number), 7, b"%d" % (number // 10_000), 0.0)

    assert len(kept) == KEPT_MAX


def test_those_of_before_a_restart_count_and_take_no_room_of_others() -> None:
    before, after = Associations(), Associations()
    for number in range(KEPT_EACH):
        before.take(key(number), 7, b"home", 0.0)
    after.restore(before.take_new().items(), 1.0)

    assert after.take(key(0), 7, b"home", 1.0) is False
    assert after.take(key(KEPT_EACH), 7, b"home", 1.0) is True
    assert (len(before.take_new()), len(after.take_new())) == (0, 1)


def test_after_a_restart_as_many_as_ever_are_kept() -> None:
    kept = Associations()

    kept.restore(((number.to_bytes(16), 10.0) for number in range(KEPT_MAX + 2)), 0.0)

    assert len(kept) == KEPT_MAX
