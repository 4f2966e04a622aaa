"""Key agreement between two workers, random masks, and encrypted messages.

X25519 (RFC 7748) with HKDF-SHA256 (RFC 5869) agrees on keys. ChaCha20 generates masks.
ChaCha20-Poly1305 (RFC 8439) encrypts messages.
Each key is made for one run of the protocol and for one purpose. So the generator may use a nonce
of zeros: it never uses a key twice.
"""

import os

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from workers.agent.secure_aggregation.fixed_point import FixedPointVector

SEED_BYTES = 32


def new_private() -> bytes:
    return X25519PrivateKey.generate().private_bytes_raw()


def new_seed() -> bytes:
    return os.urandom(SEED_BYTES)


def public_of(private: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def agree(private: bytes, public: bytes, purpose: str) -> bytes:
    """Return the 32 bytes on which both workers of a pair agree.

    Raises:
        ValueError: when `public` is not a public key.
    """
    shared = X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(public))
    return HKDF(hashes.SHA256(), SEED_BYTES, None, purpose.encode()).derive(shared)


def stream(seed: bytes, count: int) -> FixedPointVector:
    """Return `count` pseudorandom integers for this seed."""
    generator = Cipher(ChaCha20(seed, bytes(16)), mode=None).encryptor()
    return np.frombuffer(generator.update(bytes(4 * count)), "<u4").astype(np.uint32)


def seal(key: bytes, message: bytes, way: str) -> bytes:
    """Encrypt a message with `key`. `way` names sender and receiver and is authenticated too."""
    nonce = os.urandom(12)
    return nonce + ChaCha20Poly1305(key).encrypt(nonce, message, way.encode())


def unseal(key: bytes, sealed: bytes, way: str) -> bytes:
    """Decrypt a message.

    Raises:
        ValueError: when it was not encrypted with this key and for this `way`.
    """
    try:
        return ChaCha20Poly1305(key).decrypt(sealed[:12], sealed[12:], way.encode())
    except (InvalidTag, ValueError):
        raise ValueError("a sealed message cannot be opened") from None
