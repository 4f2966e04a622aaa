"""Decode bodies that clients send with `Content-Encoding: gzip`, within a limit."""

import zlib

from starlette.exceptions import HTTPException
from starlette.types import Message, Receive

GZIP = ("gzip", "x-gzip")
_GZIP_WINDOW = 16 + zlib.MAX_WBITS
_PIECE = 65_536


def with_gzip_decoded(receive: Receive, most: int) -> Receive:
    """Return `receive` with the body decoded.

    Raises, when called:
        HTTPException: 400 if the body is not gzip, 413 if it has more than `most` bytes decoded.
    """
    decoder, total, has_begun = zlib.decompressobj(_GZIP_WINDOW), 0, False

    async def receive_decoded() -> Message:
        nonlocal decoder, total, has_begun
        message = await receive()
        if message["type"] != "http.request":
            return message
        parts, left = [], message.get("body", b"")
        has_begun = has_begun or bool(left)
        try:
            while left:
                if decoder.eof:
                    decoder = zlib.decompressobj(_GZIP_WINDOW)  # the next gzip member
                parts.append(decoder.decompress(left, _PIECE))
                total += len(parts[-1])
                if total > most:
                    raise HTTPException(413)
                left = decoder.unconsumed_tail or decoder.unused_data
            if has_begun and not message.get("more_body", False) and not decoder.eof:
                raise zlib.error("the body ends too early")
        except zlib.error as error:
            raise HTTPException(400) from error
        return {**message, "body": b"".join(parts)}

    return receive_decoded
