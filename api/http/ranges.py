"""The bytes of a file that a request asks for (RFC 9110, section 14)."""

import re
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.requests import Request

from api.domain.errors import RangeNotSatisfiableError

_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


def check_range(request: Request, size: int) -> None:
    """Check the `Range` of a request for a file of `size` bytes.

    A range that makes no sense is ignored, as RFC 9110 allows. So are several ranges: the answer
    is then the whole file.

    Raises:
        RangeNotSatisfiableError: the file has no bytes in this range.
    """
    wanted = request.headers.get("range")
    if wanted is None:
        return
    match = _RANGE.fullmatch(wanted.replace(" ", ""))
    first, last = match.groups() if match is not None else ("", "")
    if not (first or last) or (first and last and int(first) > int(last)):
        del MutableHeaders(scope=request.scope)["range"]
    elif (first and int(first) >= size) or (not first and (int(last) == 0 or size == 0)):
        raise RangeNotSatisfiableError(size)
