"""Signed referrals (RFC 8111, section 10): made, verified from the roots down, and refused where they are not valid."""

from __future__ import annotations

import base64
import subprocess
from ipaddress import ip_address
from pathlib import Path

import pytest
from msgspec.structs import replace

from lispmob.crypto.rsa_signatures import RSA_SHA1, SigningKey, is_available, read_public_key, verify
from lispmob.errors import ConfigError
from lispmob.hub.config import load_hub
from lispmob.hub.ddt.policy import Delegation
from lispmob.hub.ddt.signatures import DELEGATIONS, EACH, NOTHING, REGISTERED, Signer, is_signed, keys_in
from lispmob.hub.map_server.asker_limits import Network, network_of
from lispmob.wire.address import IpAddress
from lispmob.wire.eid import from_prefix
from lispmob.wire.lcaf_types import SecurityKey
from lispmob.wire.map_referral import MapReferral, Referral, ReferralRecord
from lispmob.wire.record import Locator
from tests.hub.ddt.ddt_tree import CHILD, LAPTOP, RESOLVER, ROOT, SERVER, Tree
from tests.hub.exchange import eid, rlocs_of, site, xtr

pytestmark = pytest.mark.skipif(not is_available(), reason="needs the package cryptography")

NOW = 1_750_000_000.0
VALID_S = 86400

# RSA-SHA256 over a record with TTL 1440, which was then counted down to 700; made by OpenSSL
SIGNED = bytes.fromhex(
    "600000010123456789abcdef000002bc0110300010000001f00100000164ff000001400300000b00013201000000012630820122300d"
    "06092a864886f70d01010105000382010f003082010a028201010096d4daf9badce659058ce7147f47702b2fce0abad6e32e5949126c"
    "8af7b422d26e28a4b12442490f969ace7603f1ce9bafdd7275ac8ffdd3894d7fb490a5ac01b1e77558f06bc6f3bb36ef007c3bf1e539"
    "b624a12b25a0af27957b80298cca2c124c251e72121f1b5ff33e34c334cfffa12ed8ca194ee0ecbc2ab48e79cd35672b7c43f605c21a"
    "101316517355508214e2aaa96e66f42e003fddaad1ef9538962e1bf24e74d6b9b6492f6874d56df4402eb69a7212c62c73312e61f981"
    "44f16e8a0976d5c3682a14d0a6c6400a7a4bf218753a31d5c49ac281c8d7d0a60897164cb50f2f01e40f44f12d14d83fe822abd48c9a"
    "7417ee71943a612f36a382385502030100010001c6336403000005a070dbd880677485801234010002000000680c7e1b900d3cd0bb16"
    "9a758197880e29aef6176efedb5372cf998060c8560f8a15adc0d23c00d695dda0fd9289a88f792c15e0f04b419206f686c85a9c6787"
    "e12a21804933dfc48bd2f21dc95373eb5cfd6a20b0d5f985e31a045f802885313defc728b8d8882f132d92c841017d2104126db31490"
    "3a042e300b21e2366ea66c5b5a3d1a15c7045407be109da211a807ac4bad5400aca39566b7927f2f08a50a8111ba913aa413471734e3"
    "6af356696336f9ba942f4a211f86d9f468f9aad3b1500bd3b8053ca5c8957bd4426c034ffd3060da2b7b7d6cab01b855e58381091f2b"
    "a7854e78f4e2e8bb1d852d67d6bf18de78d596019b2ca28531091e6f3aec"
)
SIGNED_BY = base64.b64decode(
    "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA2Zs+8oUiaDIO4GqFxVOPLaGljxeUM3wuUk+aJMH2f4bjIaxeiurZRwsALGCMoWtd"
    "IUS57ag2GHM9mFpAeTxayxGoAzhd1zb4qFSDfzASUKUx8g6QzTWRIv4DN6gANdVVBzDOG1fXoH5KEyaiFPr9Ywg+p0mPdDuSsg/m0MRnnTDh"
    "dYKGfnDJa5VcQwreuZmOXsuf1SI3H0fVXIYq21JnxSipwZECiIcoZOf+QMU7ciC1KFI5qJ2w1hm5oHBRirYnPJ/y+secqNGsgj+yJDTfVPjY"
    "XFmFmmHzIJA5JtEwcIa/Ady/ByhtW/YaMf92J/Rg7K9dlRZJ6IewF195kfuK+wIDAQAB"
)


class Keys:
    """RSA key pairs in files, one for each signer."""

    def __init__(self, folder: Path) -> None:
        self.files: dict[str, Path] = {}
        for name in ("root", "child", "server", "stranger"):
            private, public = folder / f"{name}.pem", folder / f"{name}.pub"
            for command in (("genrsa", "-out", private, "2048"), ("rsa", "-in", private, "-pubout", "-out", public)):
                subprocess.run(["openssl", *map(str, command)], check=True, capture_output=True)
            self.files[name], self.files[f"{name}.pub"] = private, public

    def signer(self, name: str, wall: float = NOW) -> Signer:
        return Signer(SigningKey(self.files[name]), 1, VALID_S, lambda: wall)

    def public(self, name: str) -> bytes:
        return read_public_key(self.files[f"{name}.pub"])


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys"))


ASKER = network_of(ip_address("192.0.2.200"))


def record(ttl_min: int = 1440) -> ReferralRecord:
    prefix = eid("10.64.0.0/10")
    locators = (Locator(CHILD, 1, 100),)
    return ReferralRecord(from_prefix(prefix), prefix.mask_len, Referral.NODE, locators, ttl_min)


def tree(keys: Keys, *, told_as_child: str = "child", signs: str = "child", wall: float = NOW) -> Tree:
    """The tree of the other tests, with signatures. `signs`: whose key the child signs with."""
    world = Tree()
    root_keys = (keys.public("root"),)
    world.add(RESOLVER, roots=(ROOT,), root_keys=root_keys, verify=verify, wall=lambda: NOW)
    child = Delegation(eid("10.64.0.0/10"), (CHILD,), keys=(keys.public(told_as_child),))
    world.add(ROOT, authoritative=(eid("10.0.0.0/8"),), delegations=(child,), signer=keys.signer("root", wall))
    below = Delegation(eid("10.65.0.0/16"), (SERVER,), is_map_server=True, keys=(keys.public("server"),))
    world.add(CHILD, authoritative=(eid("10.64.0.0/10"),), delegations=(below,), signer=keys.signer(signs, wall))
    server = world.add(
        SERVER, site("10.65.0.0/16"), authoritative=(eid("10.65.0.0/16"),), signer=keys.signer("server", wall)
    )
    server.on_datagram(replace(xtr("203.0.113.5").register(LAPTOP), destination=SERVER), now=0.0)
    return world


def test_what_openssl_signed_is_taken_with_the_ttl_counted_down() -> None:
    (signed,) = MapReferral.decode(SIGNED).records

    assert is_signed(signed, [SIGNED_BY], verify, 1_740_000_000.0)
    assert signed.ttl_min == 700
    assert len(keys_in(signed.locators)) == 1


@pytest.mark.parametrize("at", [1_735_689_599.0, 1_893_456_000.0])
def test_a_signature_does_not_count_before_or_after_its_time(at: float) -> None:
    (signed,) = MapReferral.decode(SIGNED).records

    assert not is_signed(signed, [SIGNED_BY], verify, at)


def test_one_bit_less_or_another_ttl_is_not_what_was_signed() -> None:
    (signed,) = MapReferral.decode(SIGNED).records
    other_place = replace(signed.locators[0], address=ip_address("198.51.100.66"))

    for changed in (
        replace(signed, ttl_min=1441),
        replace(signed, mask_len=15),
        replace(signed, locators=(other_place,)),
        replace(signed, signatures=()),
        replace(signed, signatures=(replace(signed.signatures[0], original_ttl_min=1441),)),
        replace(signed, signatures=(replace(signed.signatures[0], algorithm_id=RSA_SHA1),)),
        replace(signed, signatures=(replace(signed.signatures[0], algorithm_id=9),)),
    ):
        assert not is_signed(changed, [SIGNED_BY], verify, NOW)


@pytest.mark.parametrize("key", [b"", b"x" * 294, SIGNED_BY[:-1]])
def test_octets_that_are_no_key_prove_nothing(key: bytes) -> None:
    (signed,) = MapReferral.decode(SIGNED).records

    assert not is_signed(signed, [key], verify, NOW)


def test_what_is_signed_can_be_checked_after_its_way_over_the_wire(keys: Keys) -> None:
    signed = keys.signer("root").signed(record(), ASKER)
    assert signed is not None

    (taken,) = MapReferral.decode(MapReferral(1, (signed,)).encode()).records

    assert is_signed(taken, [keys.public("root")], verify, NOW)
    assert not is_signed(taken, [keys.public("child")], verify, NOW)


class Counting:
    """A key that counts what it signs."""

    octets = 256

    def __init__(self) -> None:
        self.made = 0

    def sign(self, octets: bytes) -> bytes:
        self.made += 1
        return bytes(256)


def askers(number: int) -> list[Network]:
    return [network_of(ip_address("192.0.2.1") + at) for at in range(number)]


def test_a_flood_of_one_question_signs_once_and_of_many_is_bounded() -> None:
    key = Counting()
    signer = Signer(key, 1, VALID_S, lambda: NOW)
    for _ in range(1000):
        assert signer.signed(record(), ASKER) is not None
    assert key.made == 1
    answers = [signer.signed(record(ttl_min), asker) for ttl_min in range(500) for asker in askers(10)]

    assert key.made == DELEGATIONS.burst
    assert answers[-1] is None


@pytest.mark.parametrize(
    "kind", [Referral.NOT_AUTHORITATIVE, Referral.DELEGATION_HOLE, Referral.MS_NOT_REGISTERED, Referral.MS_ACK]
)
def test_who_asks_about_everything_else_keeps_no_delegation_from_being_signed(kind: Referral) -> None:
    key = Counting()
    signer = Signer(key, 1, VALID_S, lambda: NOW)
    signer.signed(record(), ASKER)
    junk = [replace(record(ttl_min), referral=kind) for ttl_min in range(3000)]
    refused = [signer.signed(each, asker) for each, asker in zip(junk, askers(3000), strict=True)].count(None)
    made = key.made

    assert signer.signed(record(), ASKER) is not None
    assert key.made == made
    assert signer.signed(record(99), ASKER) is not None
    assert refused == 3000 - (REGISTERED if kind is Referral.MS_ACK else NOTHING).burst


def test_questions_about_unregistered_eids_keep_nothing_that_is_registered_from_being_signed() -> None:
    signer = Signer(Counting(), 1, VALID_S, lambda: NOW)
    for ttl_min, asker in enumerate(askers(3000)):
        signer.signed(replace(record(ttl_min), referral=Referral.NOT_AUTHORITATIVE), asker)

    assert signer.signed(replace(record(), referral=Referral.MS_ACK), ASKER) is not None


def test_one_who_asks_about_all_that_is_registered_leaves_signatures_for_others() -> None:
    signer = Signer(Counting(), 1, VALID_S, lambda: NOW)
    (first, second) = askers(2)
    answers = [signer.signed(replace(record(ttl_min), referral=Referral.MS_ACK), first) for ttl_min in range(500)]

    assert len(answers) - answers.count(None) == EACH.burst
    assert signer.signed(replace(record(499), referral=Referral.MS_ACK), second) is not None


def test_a_key_that_is_revoked_anywhere_counts_nowhere() -> None:
    good, gone = b"g" * 100, b"r" * 100
    address: IpAddress = ip_address("198.51.100.1")
    locators = [
        Locator(SecurityKey(0, (good, gone), address)),
        Locator(SecurityKey(0, (gone,), address, is_revoked=True)),
    ]

    assert keys_in(locators) == (good,)


def test_a_search_follows_signatures_from_the_root_to_the_map_server(keys: Keys) -> None:
    world = tree(keys)

    (answer,) = world.ask()

    assert rlocs_of(answer) == ["203.0.113.5"]
    assert world.asked == [ROOT, CHILD, SERVER]
    assert world.hubs[RESOLVER].counters["ddt_signature"] == 0


@pytest.mark.parametrize(
    "options",
    [
        {"signs": "stranger"},
        {"told_as_child": "stranger"},
        {"wall": NOW - 10 * VALID_S},
        {"wall": NOW + 10 * VALID_S},
    ],
)
def test_a_referral_that_the_right_key_did_not_sign_in_time_leads_nowhere(
    keys: Keys, options: dict[str, object]
) -> None:
    world = tree(keys, **options)  # type: ignore[arg-type]

    assert world.ask() == []
    assert SERVER not in world.asked
    assert world.hubs[RESOLVER].counters["ddt_signature"] >= 1


def test_a_tree_that_does_not_sign_is_not_followed_by_who_checks(keys: Keys) -> None:
    world = tree(keys)
    world.add(ROOT, authoritative=(eid("10.0.0.0/8"),), delegations=(Delegation(eid("10.64.0.0/10"), (CHILD,)),))

    assert world.ask() == []
    assert world.asked == [ROOT, ROOT]


def test_who_does_not_check_follows_signed_referrals_as_well(keys: Keys) -> None:
    world = tree(keys)
    world.add(RESOLVER, roots=(ROOT,))

    (answer,) = world.ask()

    assert rlocs_of(answer) == ["203.0.113.5"]


def test_hub_conf_takes_keys_and_says_what_is_wrong_with_them(keys: Keys, tmp_path: Path) -> None:
    def load(text: str) -> None:
        path = tmp_path / "hub.conf"
        path.touch(mode=0o600)
        path.write_text(f"sites: []\nddt: {{authoritative: [10.0.0.0/8], roots: [192.0.2.1], {text}}}\n")
        policy = load_hub(path).ddt.to_policy()
        assert policy.signer is not None or policy.root_keys

    load(f"signing-key-file: {keys.files['root']}, key-tag: 7")
    load(f"root-key-file: {keys.files['root.pub']}")
    for wrong, told in (
        (f"signing-key-file: {keys.files['root.pub']}", "no private key"),
        (f"root-key-file: {keys.files['root']}", "no public key"),
        (f"root-key-file: {tmp_path}/none", "no public key"),
    ):
        with pytest.raises(ConfigError, match=told):
            load(wrong)
