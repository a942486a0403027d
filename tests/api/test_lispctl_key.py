"""lispctl key: fingerprints to compare, what is sealed with each key, and the consent to a new one."""

from __future__ import annotations

import json

from lispmob.api.sealing.schema import Keys
from tests.api.conftest import Ctl
from tests.api.fake_backend import Served


def test_own_key_and_fingerprint_come_first(ctl: Ctl) -> None:
    shown = ctl("key").splitlines()
    assert "0a1b-2c3d-4e5f-6071-8293" in shown[0]
    assert "8520f0098930a754" in shown[1]


def test_each_peer_is_shown_with_its_state_its_key_and_its_packets(ctl: Ctl) -> None:
    shown = " ".join(ctl("key").split())
    assert "192.0.2.65/32 sealed the Map-Server vouches for its key; vouched key 1111-2222-3333-4444-5555" in shown
    assert "12 packets out, 7 in" in shown
    assert "192.0.2.66/32 clear no answer to the handshake" in shown


def test_the_libraries_that_encrypt_are_named(ctl: Ctl) -> None:
    shown = ctl("key")

    assert "aes-128-gcm by libipsec-mb (VAES, AVX-512)" in shown
    assert "chacha20-poly1305 by libcrypto" in shown


def test_a_new_key_that_waits_is_shown_with_the_command_that_accepts_it(ctl: Ctl) -> None:
    assert "lispctl key --accept 192.0.2.67/32" in " ".join(ctl("key").split())


def test_a_new_key_is_accepted(ctl: Ctl, daemon: Served) -> None:
    assert ctl("key --accept 192.0.2.67/32").strip() == "the new key of 192.0.2.67/32 is used from now on"
    assert [str(prefix) for prefix in daemon.backend.seals.accepted] == ["192.0.2.67/32"]


def test_a_key_that_does_not_wait_is_not_accepted(ctl: Ctl) -> None:
    assert "no new key of 192.0.2.99/32 waits" in ctl("key --accept 192.0.2.99/32", code=1)
    assert "is not an EID-Prefix" in ctl("key --accept nonsense", code=1)


def test_programs_get_json(ctl: Ctl) -> None:
    assert json.loads(ctl("key --json"))["peers"][0]["seal"]["packets_out"] == 12


def test_where_nothing_can_be_sealed_it_says_why(ctl: Ctl, daemon: Served) -> None:
    daemon.backend.seals.shown_keys = Keys(mode="off", why_not="this build has no libcrypto")
    assert ctl("key").strip() == "nothing is sealed here: this build has no libcrypto"


def test_another_own_key_is_drawn_by_one_command_and_said(ctl: Ctl) -> None:
    shown = " ".join(ctl("key --replace").split())
    assert "has the key 9999-8888-7777-6666-5555 now" in shown
    assert "public-key: 8520f009" in shown


def test_new_keys_are_made_for_all_sessions_by_one_command(ctl: Ctl) -> None:
    assert ctl("key --rekey").strip() == "2 peers: new keys now"


def test_a_key_is_forgotten_by_one_command_and_only_one_that_is_kept(ctl: Ctl, daemon: Served) -> None:
    assert "may leave in clear" in ctl("key --forget 192.0.2.65/32")
    assert [str(prefix) for prefix in daemon.backend.seals.forgotten] == ["192.0.2.65/32"]
    assert "no key of 192.0.2.99/32 is kept" in ctl("key --forget 192.0.2.99/32", code=1)
