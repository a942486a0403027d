"""The keys of a shared secret, as lispd.conf and hub.conf both have them."""

from __future__ import annotations

from typing import Annotated, Final

from lispmob.config.reader import Section
from lispmob.config.values import FieldError, KeyFile, KeyId, Secret, SecretText, one_of
from lispmob.wire.auth import Algorithm, Key

ALGORITHMS: Final = {
    "hmac-sha-256-128": Algorithm.HMAC_SHA_256_128,
    "hmac-sha-1-96": Algorithm.HMAC_SHA_1_96,
    "hmac-sha-256-128+hkdf": Algorithm.HMAC_SHA_256_128_HKDF,
}


class KeySection(Section, frozen=True, kw_only=True):
    """Base of a section with one shared key, in the file itself or in a separate file."""

    key: SecretText | None = None
    key_file: KeyFile | None = None
    key_id: KeyId = 0
    algorithm: Annotated[str, one_of(*ALGORITHMS)] = "hmac-sha-256-128"
    digest: Annotated[str, one_of("full", "truncated")] = "full"

    def __post_init__(self) -> None:
        if self.key is None and self.key_file is None:
            raise ValueError("give the shared key: 'key' (the key itself) or 'key-file' (a file that holds it)")
        if self.key is not None and self.key_file is not None:
            raise FieldError("key-file", "'key' is given too; one of them")

    @property
    def secret(self) -> Secret:
        """The key, wherever it was written."""
        found = self.key or self.key_file
        assert found is not None, "checked when the section was read"
        return found

    def to_key(self) -> Key:
        """The key for the codec."""
        return Key(self.secret.octets, self.key_id, ALGORITHMS[self.algorithm], self.digest == "truncated")
