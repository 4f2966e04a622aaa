"""Read the file of an upload from the request's body, in the forms in which clients send it."""

from collections.abc import AsyncIterator
from email.message import Message

from starlette.datastructures import Headers

from api.domain.errors import DomainError, FieldError, InvalidError

_LINE_END = b"\r\n"
_HEAD_END = b"\r\n\r\n"
_LONGEST_HEAD = 16_384
_SEND_WHOLE = "Send the whole file again, for example with `curl -T FILE`."


class _MediaTypeError(DomainError):
    status = 415
    title = "Unsupported media type"


def check_is_whole(headers: Headers) -> None:
    """Check that the body is a whole file. `curl -C` sends only the rest of one.

    Raises:
        InvalidError: `Content-Range` names a part of a file.
        DomainError: `Content-Encoding` says that the bytes are not those of the file.
    """
    if headers.get("content-encoding", "identity").lower() != "identity":
        detail = "A file is stored as it is sent. Send it without Content-Encoding; a data file may be a gzip or zstd file."
        raise _MediaTypeError("unsupported_encoding", detail, headers={"Accept-Encoding": "identity"})
    content_range = headers.get("content-range")
    if content_range is not None and not _is_whole(content_range):
        message = f"Content-Range: this is a part of a file, and an upload has the whole. {_SEND_WHOLE}"
        raise InvalidError("partial_upload", message, errors=(FieldError("/Content-Range", message),))


def file_size(headers: Headers) -> int | None:
    """Return the size of the file in bytes, None where the headers do not have it.

    A form is larger than its file. So its length is not the file's.
    """
    length = headers.get("content-length", "")
    return int(length) if length.isdecimal() and _media_type(headers).get_content_type() != "multipart/form-data" else None


def file_chunks(headers: Headers, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the bytes of the file: the body, or the one part of a form.

    Raises:
        InvalidError: the form is not readable, or it does not have exactly one part.
        DomainError: the body is a URL-encoded form, whose line ends are lost.
    """
    media_type = _media_type(headers)
    if media_type.get_content_type() == "multipart/form-data":
        boundary = str(media_type.get_param("boundary", "")).encode("latin-1", "replace")
        return _single_part(boundary, body)
    if media_type.get_content_type() == "application/x-www-form-urlencoded":
        return _with_line_ends(body)
    return body


def _is_whole(content_range: str) -> bool:
    unit, _, value = content_range.strip().partition(" ")
    span, _, total = value.partition("/")
    return unit == "bytes" and total.isdecimal() and int(total) > 0 and span == f"0-{int(total) - 1}"


def _media_type(headers: Headers) -> Message:
    message = Message()
    message["Content-Type"] = headers.get("content-type", "application/octet-stream")
    return message


async def _single_part(boundary: bytes, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the content of the only part of a form (RFC 7578), as it arrives."""
    delimiter = _LINE_END + b"--" + boundary
    # The first delimiter has no line end before it. This one makes all delimiters equal.
    buffer, in_part, has_ended = _LINE_END, False, False
    async for chunk in body:
        buffer += chunk
        if not in_part:
            content_start = _content_start(buffer, delimiter, has_boundary=bool(boundary))
            if content_start is None:
                continue
            buffer, in_part = buffer[content_start:], True
        if not has_ended and delimiter in buffer:
            content, _, buffer = buffer.partition(delimiter)
            has_ended = True
            yield content
        if has_ended:
            if len(buffer) >= 2 and not buffer.startswith(b"--"):
                raise _invalid_form("it has more than one part")
            buffer = buffer[:2]
        elif len(buffer) > len(delimiter):
            # The end of the buffer may be the start of the delimiter.
            yield buffer[: -len(delimiter)]
            buffer = buffer[-len(delimiter) :]
    if not has_ended or not buffer.startswith(b"--"):
        raise _invalid_form("it ends before its last boundary")


def _content_start(buffer: bytes, delimiter: bytes, *, has_boundary: bool) -> int | None:
    """Return where the part's content begins. None until its headers have arrived."""
    if not has_boundary or (len(buffer) >= len(delimiter) and not buffer.startswith(delimiter)):
        raise _invalid_form("it does not begin with its boundary")
    if _HEAD_END in buffer:
        return buffer.index(_HEAD_END) + len(_HEAD_END)
    if len(buffer) > _LONGEST_HEAD:
        raise _invalid_form("its part has too many headers")
    return None


def _invalid_form(reason: str) -> InvalidError:
    message = f"The form cannot be stored: {reason}. Send one file, with `curl -F file=@FILE` or `curl -T FILE`."
    return InvalidError("invalid_form", message, errors=(FieldError("", message),))


async def _with_line_ends(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield a body that curl calls a form.

    `curl --data-binary` sends a file as it is. `curl -d` takes its line ends out, and both have
    the same content type. Without a line end, only a single JSON document is safe.
    """
    start, last, has_line_end, joins = b"", b"", False, False
    async for chunk in body:
        has_line_end = has_line_end or b"\n" in chunk
        start = start or chunk.lstrip()[:1]
        joins = joins or b"}{" in last + chunk
        last = chunk[-1:] or last
        yield chunk
    if start and not has_line_end and (start not in (b"[", b"{") or joins):
        detail = (
            "The body came as a URL-encoded form and has no line ends: `curl -d` takes them out of a file."
            " Use `curl -T FILE`, or send Content-Type: application/octet-stream."
        )
        raise _MediaTypeError("form_body", detail)
