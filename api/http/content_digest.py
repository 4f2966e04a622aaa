"""Check the `Content-Digest` of an upload (RFC 9530) while its bytes arrive."""

import base64
import binascii
import hashlib
import re
from collections.abc import AsyncIterator

from api.domain.errors import FieldError, InvalidError

_ALGORITHMS = {"sha-256": hashlib.sha256, "sha-512": hashlib.sha512}
_MEMBER = re.compile(r"\s*([a-z0-9*_.-]+)\s*=\s*:([A-Za-z0-9+/=]*):\s*")


def with_checked_digest(header: str | None, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the body. At its end, compare it with each digest of the header that can be computed.

    Raises:
        InvalidError: `invalid_content_digest` if the header has no SHA-256 and no SHA-512, or
            cannot be read. While the body is read, `content_digest_mismatch`.
    """
    return body if header is None else _checked(_expected(header), body)


def _expected(header: str) -> dict[str, bytes]:
    """Return the digests of the header by algorithm. Unknown algorithms are left out."""
    members = [_MEMBER.fullmatch(part) for part in header.split(",")]
    try:
        found = {member[1]: base64.b64decode(member[2], validate=True) for member in members if member}
    except binascii.Error:
        found = {}
    known = {name: digest for name, digest in found.items() if name in _ALGORITHMS}
    if None in members or not known:
        raise _invalid("invalid_content_digest", "it needs the form sha-256=:BASE64: (or sha-512)")
    return known


async def _checked(expected: dict[str, bytes], body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    hashes = {name: _ALGORITHMS[name]() for name in expected}
    async for chunk in body:
        for algorithm in hashes.values():
            algorithm.update(chunk)
        yield chunk
    for name, digest in expected.items():
        if hashes[name].digest() != digest:
            reason = f"the body that arrived has another {name}. Nothing is stored. Send it again"
            raise _invalid("content_digest_mismatch", reason)


def _invalid(code: str, reason: str) -> InvalidError:
    message = f"Content-Digest: {reason}."
    return InvalidError(code, message, errors=(FieldError("/Content-Digest", message),))
