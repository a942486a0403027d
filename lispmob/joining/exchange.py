"""How an invitation is redeemed: one question and one answer over UDP, between a new node and its hub. Pure.

1. The node draws an X25519 key and sends the public half, with a MAC by the secret of the invitation.
2. The hub checks the MAC, then whether the invitation is unused and in time. It draws a key of its own.
3. Both derive the key of the site from the X25519 secret and the invitation. It is never sent.
4. The hub answers with its public half and the settings of the node, sealed, with a MAC by the secret.

A line that names the hub's lasting public key (version 2) adds the X25519 secret of the node's key and that one to the
secret of the invitation, for all that the hub says and for the key of the site. So only the hub can answer: a reader
of the line cannot. A node that has such a line takes no answer of version 1.

Later the node asks for its settings again by the same messages: its ID follows from the key of the site, and that key
takes the place of the secret.

So the line alone is worth nothing once it was redeemed: not even with a recording of the exchange does it give the key
of the site. Who repeats the question octet by octet gets the same answer, for answers may be lost; any other question
with the same invitation is refused.

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |Type=15|   Sub-type=0xf02      |    Version    |    Verdict    |
    |                    Invitation ID, 64 bits                     |
    |                    X25519 public key, 256 bits                |
    ~    question: zeros up to 1024 octets; answer: settings, sealed ~
    |                    MAC: HMAC-SHA-256, its first 128 bits      |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

The type is the one that RFC 9304 sets aside for extensions; the sub-type is not registered. A question is longer
than any answer, so that forged sources make no reflector of a hub. An answer about an unknown invitation has no MAC,
since the hub has no secret to make it with.
"""

from __future__ import annotations

import hmac
from enum import IntEnum
from struct import Struct
from typing import Final, Protocol

import msgspec

from lispmob.errors import LispError, MalformedMessage
from lispmob.joining.invitation import ID_OCTETS, BadInvitation, Invitation
from lispmob.wire.lisp_sec_auth import hkdf

TYPE: Final = 0xFF02
VERSION: Final = 1
PINNED_VERSION: Final = 2  # the line names the hub's public key
KEY_OCTETS: Final = 32
MAC_OCTETS: Final = 16
QUESTION_OCTETS: Final = 1024
TAG_OCTETS: Final = 16

_HEAD: Final = Struct(f">HBB{ID_OCTETS}s{KEY_OCTETS}s")
SETTINGS_LIMIT: Final = QUESTION_OCTETS - _HEAD.size - TAG_OCTETS - MAC_OCTETS
_ID_LABEL: Final = b"lispmob join: ID of a site"
_MAC_LABEL: Final = b"lispmob join: MAC"
_SITE_LABEL: Final = b"lispmob join: key of the site"
_SEAL_LABEL: Final = b"lispmob join: settings"


class Verdict(IntEnum):
    """What the hub says."""

    QUESTION = 0
    SETTINGS = 6  # also a question: from a node that has joined
    ACCEPTED = 1
    USED = 2
    EXPIRED = 3
    UNKNOWN = 4
    NOT_NOW = 5


class Ciphers(Protocol):
    """The functions of `crypto/noise_ciphers.py` used here."""

    def public_key(self, private_key: bytes) -> bytes:
        """The public half, 32 octets."""

    def shared_secret(self, private_key: bytes, public_key: bytes) -> bytes | None:
        """32 octets; None for a public key that gives no secret."""

    def seal(self, key: bytes, counter: int, data: bytes, plain: bytes) -> bytes:
        """Ciphertext and tag."""

    def open(self, key: bytes, counter: int, data: bytes, sealed: bytes) -> bytes | None:
        """The plaintext; None when it was not sealed with this key."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """The settings a hub sends a node. A node skips names it does not know, so that later hubs can send more."""

    name: str
    eids: tuple[str, ...]
    overlay_prefixes: tuple[str, ...] = ()
    domain: str | None = None
    lisp_sec: str = "prefer"


class JoinRefused(LispError):
    """The hub refuses the invitation."""

    def __init__(self, verdict: Verdict, text: str) -> None:
        super().__init__(text)
        self.verdict = verdict


_REFUSALS: Final = {
    Verdict.USED: "the invitation was used already, and counts once: have the hub print another one for this machine. "
    "If none of your machines used it, a stranger did: `lisphub revoke NAME` on the hub excludes that machine",
    Verdict.EXPIRED: "the invitation has expired: have the hub print another one",
    Verdict.UNKNOWN: "the hub does not know this invitation: it was made by another hub, or was revoked",
    Verdict.NOT_NOW: "the hub cannot write down that the invitation is used, so it does not take it; its log says why",
}


class Joined(msgspec.Struct, frozen=True):
    """A redeemed invitation. `key`: the secret shared with the Map-Server."""

    settings: Settings
    key: bytes


class Message(msgspec.Struct, frozen=True):
    """A question or an answer."""

    verdict: Verdict
    identifier: bytes
    public_key: bytes
    body: bytes
    raw: bytes
    version: int = VERSION

    @classmethod
    def decode(cls, raw: bytes) -> Message:
        """Raises MalformedMessage."""
        if len(raw) < _HEAD.size + MAC_OCTETS:
            raise MalformedMessage("rx_short", f"a join message of {len(raw)} octets")
        kind, version, verdict, identifier, public_key = _HEAD.unpack_from(raw)
        is_known = version in (VERSION, PINNED_VERSION) and verdict in Verdict.__members__.values()
        if kind != TYPE or not is_known:
            raise MalformedMessage("rx_type", "no join message of this version")
        return cls(Verdict(verdict), identifier, public_key, raw[_HEAD.size : -MAC_OCTETS], raw, version)

    def is_by(self, secret: bytes) -> bool:
        """True when the MAC was made with the invitation's secret."""
        return hmac.compare_digest(self.raw[-MAC_OCTETS:], _mac(secret, self.raw[:-MAC_OCTETS]))


def encode(
    verdict: Verdict,
    identifier: bytes,
    public_key: bytes,
    body: bytes,
    secret: bytes | None,
    version: int = VERSION,
) -> bytes:
    """Encode a message. Without a secret the MAC is zeros."""
    octets = _HEAD.pack(TYPE, version, verdict, identifier, public_key) + body
    return octets + (bytes(MAC_OCTETS) if secret is None else _mac(secret, octets))


QUESTIONS: Final = frozenset({Verdict.QUESTION, Verdict.SETTINGS})


class Exchange:
    """The node's side: makes the question, and checks answers to it."""

    unknown = _REFUSALS[Verdict.UNKNOWN]

    def __init__(
        self,
        verdict: Verdict,
        identifier: bytes,
        secret: bytes,
        private_key: bytes,
        ciphers: Ciphers,
        hub_key: bytes | None = None,
    ) -> None:
        """`hub_key`: the hub's lasting public key, which it has to prove. Raises BadInvitation for an invalid key."""
        self._identifier = identifier
        self._private_key = private_key
        self._ciphers = ciphers
        self._version = VERSION if hub_key is None else PINNED_VERSION
        self._secret = secret
        if hub_key is not None:
            proof = ciphers.shared_secret(private_key, hub_key)
            if proof is None:
                raise BadInvitation("the invitation names a public key that is none: have the hub print a new one")
            self._secret = secret + proof
        body = bytes(QUESTION_OCTETS - _HEAD.size - MAC_OCTETS)
        self.question = encode(verdict, identifier, ciphers.public_key(private_key), body, secret, self._version)

    def on_answer(self, raw: bytes) -> Joined:
        """Read the hub's answer. Raises MalformedMessage when it proves nothing, and JoinRefused.

        An answer of Verdict.UNKNOWN proves nothing either, since any host can send it.
        """
        answer = Message.decode(raw)
        if answer.identifier != self._identifier or answer.verdict in QUESTIONS:
            raise MalformedMessage("rx_nonce", "an answer to another question")
        if answer.verdict is Verdict.UNKNOWN:
            raise JoinRefused(Verdict.UNKNOWN, self.unknown)
        if answer.version != self._version:
            raise MalformedMessage("rx_auth", "an answer whose sender does not prove to be the hub")
        if not answer.is_by(self._secret):
            raise MalformedMessage("rx_auth", "an answer without the secret of the invitation")
        if answer.verdict is not Verdict.ACCEPTED:
            raise JoinRefused(answer.verdict, _REFUSALS[answer.verdict])
        shared = self._ciphers.shared_secret(self._private_key, answer.public_key)
        if shared is None:
            raise MalformedMessage("rx_auth", "a public key that gives no secret")
        keys = _Keys(shared, self._secret, Message.decode(self.question).public_key + answer.public_key)
        plain = self._ciphers.open(keys.seal, 0, answer.identifier, answer.body)
        if plain is None:
            raise MalformedMessage("rx_auth", "settings that the hub did not seal")
        try:
            settings = msgspec.json.decode(plain, type=Settings)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise MalformedMessage("rx_value", f"settings that cannot be read: {error}") from None
        return Joined(settings, keys.site)


class Redemption(Exchange):
    """Redeems an invitation."""

    def __init__(self, invitation: Invitation, private_key: bytes, ciphers: Ciphers) -> None:
        super().__init__(
            Verdict.QUESTION,
            invitation.identifier,
            invitation.secret,
            private_key,
            ciphers,
            invitation.public_key,
        )


class SettingsQuestion(Exchange):
    """Asks for the settings of a node that has joined. The key derived here is not used."""

    unknown = "the hub does not know this node: it was shut out, or another invitation was redeemed for its site"

    def __init__(self, key: bytes, private_key: bytes, ciphers: Ciphers) -> None:
        super().__init__(Verdict.SETTINGS, identifier_of(key), key, private_key, ciphers)


def identifier_of(key: bytes) -> bytes:
    """The ID of a node that has joined with this key."""
    return hkdf(key, 32, salt=_ID_LABEL)[:ID_OCTETS]


def proved_secret(question: Message, secret: bytes, hub_private_key: bytes | None, ciphers: Ciphers) -> bytes | None:
    """The secret of the hub's answers to a question; version 2 also takes the hub's lasting private key.

    None when the question cannot be answered: its public key gives no secret, or the hub has no key.
    """
    if question.version == VERSION:
        return secret
    proof = None if hub_private_key is None else ciphers.shared_secret(hub_private_key, question.public_key)
    return None if proof is None else secret + proof


def accept(
    question: Message, settings: Settings, secret: bytes, private_key: bytes, ciphers: Ciphers
) -> tuple[bytes, bytes] | None:
    """The hub's side: the answer, and the key of the site; None for a public key that gives no secret.

    `secret`: the result of `proved_secret`. ValueError for settings that are too long.
    """
    shared = ciphers.shared_secret(private_key, question.public_key)
    if shared is None:
        return None
    public_key = ciphers.public_key(private_key)
    keys = _Keys(shared, secret, question.public_key + public_key)
    plain = encoded(settings)
    sealed = ciphers.seal(keys.seal, 0, question.identifier, plain)
    answer = encode(Verdict.ACCEPTED, question.identifier, public_key, sealed, secret, question.version)
    return answer, keys.site


def refuse(question: Message, verdict: Verdict, secret: bytes | None) -> bytes:
    """The hub's answer when it refuses the invitation."""
    return encode(verdict, question.identifier, bytes(KEY_OCTETS), b"", secret, question.version)


def encoded(settings: Settings) -> bytes:
    """The settings in the form that is sealed. ValueError when they do not fit."""
    plain = msgspec.json.encode(settings)
    if len(plain) > SETTINGS_LIMIT:
        raise ValueError(f"the settings take {len(plain)} octets, more than the {SETTINGS_LIMIT} of an answer")
    return plain


class _Keys:
    """The keys that both ends derive. The key of the site is text, as keys in configuration files are."""

    def __init__(self, shared: bytes, secret: bytes, both_public: bytes) -> None:
        self.site = hkdf(shared + both_public + _SITE_LABEL, KEY_OCTETS, salt=secret).hex().encode()
        self.seal = hkdf(shared + both_public + _SEAL_LABEL, KEY_OCTETS, salt=secret)


def _mac(secret: bytes, octets: bytes) -> bytes:
    return hmac.digest(hkdf(_MAC_LABEL, 32, salt=secret), octets, "sha256")[:MAC_OCTETS]
