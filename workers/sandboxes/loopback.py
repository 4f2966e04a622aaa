"""Keep the proxies of the environment away from this machine's own addresses.

The E2B SDK reads HTTP_PROXY, ALL_PROXY and NO_PROXY itself, and has no option to ignore them.
"""

import os

_ADDRESSES = ("127.0.0.1", "localhost", "::1")
_NAMES = ("NO_PROXY", "no_proxy")


def exempt_loopback_from_proxies() -> None:
    """Add the loopback addresses to NO_PROXY of this process, in both spellings.

    Programs differ in the spelling that they prefer, so both get the union.
    """
    entries = [entry.strip() for name in _NAMES for entry in os.environ.get(name, "").split(",")]
    value = ",".join(dict.fromkeys(entry for entry in (*entries, *_ADDRESSES) if entry))
    os.environ.update(dict.fromkeys(_NAMES, value))
