"""Which ranges of a file are answered, ignored or refused."""

import pytest
from starlette.requests import Request

from api.domain.errors import RangeNotSatisfiableError
from api.http.ranges import check_range


def asking(value: str) -> Request:
    return Request({"type": "http", "method": "GET", "headers": [(b"range", value.encode())]})


@pytest.mark.parametrize("value", ["bytes=0-0", "bytes=99-", "bytes=10-1000", "bytes=-1", "bytes=-1000", "bytes= 5 - 7"])
def test_a_range_of_the_file_is_kept(value: str) -> None:
    request = asking(value)
    check_range(request, 100)
    assert "range" in request.headers


@pytest.mark.parametrize(
    "value", ["bytes=-", "bytes=9-3", "rows=0-1", "bytes=a-b", "bytes=0-1,5-6", "bytes", "", "bytes=1bytes=2"]
)
def test_what_makes_no_sense_is_ignored(value: str) -> None:
    request = asking(value)
    check_range(request, 100)
    assert "range" not in Request(request.scope).headers


@pytest.mark.parametrize(("value", "size"), [("bytes=100-", 100), ("bytes=0-", 0), ("bytes=-0", 100), ("bytes=-5", 0)])
def test_a_range_without_bytes_is_refused_with_the_size(value: str, size: int) -> None:
    with pytest.raises(RangeNotSatisfiableError) as caught:
        check_range(asking(value), size)
    assert caught.value.headers == {"Content-Range": f"bytes */{size}"}
    assert caught.value.status == 416
