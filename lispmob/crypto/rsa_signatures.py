"""RSA signatures of Map-Referrals (RFC 8111, section 10), by the package cryptography (adapter).

PKCS #1 v1.5 padding and SubjectPublicKeyInfo keys: the RFC leaves both open.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Final

from lispmob.errors import LispError

RSA_SHA1: Final = 1
RSA_SHA256: Final = 2
MISSING: Final = "signatures need the package cryptography (python3-cryptography, or the extra 'ddt')"


def is_available() -> bool:
    """True when signatures can be made and checked."""
    return find_spec("cryptography") is not None


class SigningKey:
    """A private key in a PEM file. Raises LispError for a file that has none of RSA."""

    def __init__(self, path: Path) -> None:
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        try:
            key = load_pem_private_key(path.read_bytes(), None)
        except (OSError, ValueError, TypeError) as error:
            raise LispError(f"{path}: no private key in PEM without a password: {error}") from None
        if not isinstance(key, RSAPrivateKey):
            raise LispError(f"{path}: an RSA key is needed (RFC 8111, 10)")
        self._key = key

    def sign(self, octets: bytes) -> bytes:
        """RSA-SHA256."""
        from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
        from cryptography.hazmat.primitives.hashes import SHA256

        return self._key.sign(octets, PKCS1v15(), SHA256())

    @property
    def octets(self) -> int:
        """The length of a signature."""
        return self._key.key_size // 8


def read_public_key(path: Path) -> bytes:
    """The SubjectPublicKeyInfo of a PEM file. Raises LispError."""
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        raise LispError(f"{path}: no public key in PEM: {error}") from None
    if not isinstance(key, RSAPublicKey):
        raise LispError(f"{path}: an RSA key is needed (RFC 8111, 10)")
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def verify(public_key: bytes, algorithm: int, octets: bytes, signature: bytes) -> bool:
    """True when the holder of the key signed these octets; False for keys and algorithms that are not known."""
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.hashes import SHA1, SHA256
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    digest = {RSA_SHA1: SHA1, RSA_SHA256: SHA256}.get(algorithm)
    if digest is None:
        return False
    try:
        key = load_der_public_key(public_key)
        if not isinstance(key, RSAPublicKey):
            return False
        key.verify(signature, octets, PKCS1v15(), digest())
    except (InvalidSignature, ValueError, UnsupportedAlgorithm):
        return False
    return True
