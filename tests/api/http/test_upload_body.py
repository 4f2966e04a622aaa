"""The forms of an upload's body: whole files, parts of files, forms."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from starlette.datastructures import Headers

from api.domain.errors import DomainError, InvalidError
from api.http.upload_body import check_is_whole, file_chunks, file_size

FILE = b'{"text": "a"}\r\n{"text": "b"}\r\n\r\n--x\r\n'
PART_HEAD = b'Content-Disposition: form-data; name="file"; filename="a"\r\nContent-Type: text/plain\r\n\r\n'
FORM = b"--x-9\r\n" + PART_HEAD + b"%b\r\n--x-9--\r\n"
MULTIPART = "multipart/form-data; boundary=x-9"
URL_ENCODED = "application/x-www-form-urlencoded"


def stored(media_type: str | None, body: bytes, chunk: int = 10_000) -> bytes:
    """Return what is stored of a body that arrives in chunks of this size."""

    async def stream() -> AsyncIterator[bytes]:
        for start in range(0, len(body), chunk):
            yield body[start : start + chunk]
        yield b""

    async def read() -> bytes:
        headers = Headers({"content-type": media_type} if media_type else {})
        return b"".join([piece async for piece in file_chunks(headers, stream())])

    return asyncio.run(read())


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 64, 10_000])
@pytest.mark.parametrize("content", [FILE, b"", b"\r\n", b"a", FILE * 20])
def test_the_part_of_a_form_is_the_file(content: bytes, chunk: int) -> None:
    assert stored(MULTIPART, FORM % content, chunk) == content


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ((FORM % b"a").replace(b"--x-9--\r\n", FORM % b"b"), "more than one part"),
        ((FORM % b"a")[:-4], "ends before"),
        ((FORM % b"a").replace(b"\r\n--x-9--", b""), "ends before"),
        (b"hello" * 10, "does not begin"),
        (b"--x-9\r\n" + b"a" * 20_000, "too many headers"),
        (b"", "ends before"),
    ],
)
def test_a_form_that_is_not_one_file_is_refused(body: bytes, reason: str) -> None:
    for chunk in (1, 1000):
        with pytest.raises(InvalidError, match=reason) as caught:
            stored(MULTIPART, body, chunk)
        assert caught.value.code == "invalid_form"


def test_a_form_without_a_boundary_is_refused() -> None:
    with pytest.raises(InvalidError, match="does not begin"):
        stored("multipart/form-data", FORM % b"a")


@pytest.mark.parametrize("chunk", [1, 5, 1000])
def test_a_file_that_lost_its_line_ends_is_refused(chunk: int) -> None:
    for body in (b'{"text": "a"}{"text": "b"}', b"text,label a,b c,d", b"a"):
        with pytest.raises(DomainError, match="curl -d") as caught:
            stored(URL_ENCODED, body, chunk)
        assert caught.value.code == "form_body"
    for body in (b'[{"text": "a"},{"text": "b"}]', b'{"data": [{"text": "a"}]}', FILE, b""):
        assert stored(URL_ENCODED, body, chunk) == body


@pytest.mark.parametrize("media_type", [None, "application/octet-stream", "application/json", "no media type", "text/csv"])
def test_another_body_is_the_file(media_type: str | None) -> None:
    assert stored(media_type, FORM % FILE) == FORM % FILE


@pytest.mark.parametrize(
    "content_range", ["bytes 30-99/100", "bytes 0-98/100", "bytes 0-99/*", "bytes */100", "lines 0-9/10", ""]
)
def test_a_part_of_a_file_is_refused(content_range: str) -> None:
    with pytest.raises(InvalidError, match="a part of a file") as caught:
        check_is_whole(Headers({"content-range": content_range}))
    assert caught.value.code == "partial_upload"


def test_a_whole_file_is_taken() -> None:
    check_is_whole(Headers({}))
    check_is_whole(Headers({"content-range": "bytes 0-99/100"}))


def test_the_size_of_a_form_is_not_that_of_its_file() -> None:
    assert file_size(Headers({"content-length": "100"})) == 100
    assert file_size(Headers({"content-length": "100", "content-type": MULTIPART})) is None
    assert file_size(Headers({})) is None
