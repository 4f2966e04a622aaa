"""The rules of webhooks: when a delivery is tried again, how it is signed, where it may go."""

import base64
import hashlib
import hmac
from collections.abc import Sequence
from datetime import timedelta
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Annotated, Final
from urllib.parse import SplitResult, urlsplit

from api.domain.errors import FieldError, InvalidError
from api.domain.words import Words

Address = IPv4Address | IPv6Address
AddressRange = IPv4Network | IPv6Network

DELIVERY_STATES: Final = ("pending", "delivered", "failed")
DELIVERY_ENDED: Final = ("delivered", "failed")
DeliveryState = Annotated[str, Words("DeliveryState", "`pending` means that it is tried again.", DELIVERY_STATES)]
TEST_TYPE: Final = "webhook.test"
MOST_WEBHOOKS: Final = 20
PAUSES_S: Final = (5, 30, 120, 600, 1800, 3600, 7200, 14400, 28800, 28800)
"""The pause after each failed attempt. After the last one, the delivery is given up."""
GIVE_UP_AFTER: Final = timedelta(days=1)
SWITCH_OFF_AFTER: Final = timedelta(days=5)
LONGEST_URL: Final = 2000
_NAT64: Final = IPv6Network("64:ff9b::/96")
# The address of a cloud provider's internal service, which counts as global.
_REFUSED: Final = (ip_network("168.63.129.16/32"),)


def pause_after(attempts: int) -> timedelta | None:
    """Return the pause after this many failed attempts, or None: the delivery is given up."""
    return timedelta(seconds=PAUSES_S[attempts - 1]) if attempts <= len(PAUSES_S) else None


def _key(secret_key: str, webhook_id: str) -> bytes:
    return hmac.digest(secret_key.encode(), f"webhook:{webhook_id}".encode(), hashlib.sha256)


def secret_of(secret_key: str, webhook_id: str) -> str:
    """Return the secret of a webhook as receivers need it. It is derived and never stored."""
    return f"whsec_{base64.b64encode(_key(secret_key, webhook_id)).decode()}"


def signed_headers(secret_keys: Sequence[str], webhook_id: str, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the three headers of the Standard Webhooks specification.

    There is a signature for each of the service's secret keys: the present one, and during a
    rotation the one before it. A receiver needs one of them.
    """
    content = f"{message_id}.{timestamp}.".encode() + body
    digests = [hmac.digest(_key(secret_key, webhook_id), content, hashlib.sha256) for secret_key in secret_keys]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests),
    }


def refused_url(message: str) -> InvalidError:
    """Return the one error for every address that webhooks may not have.

    One code for all causes tells a client nothing about the deployment's networks.
    """
    return InvalidError("webhook_url_refused", f"/url: {message}", errors=(FieldError("/url", message),))


def parsed_url(url: str) -> SplitResult:
    """Return the parts of a webhook's address.

    Raises:
        InvalidError: the text is not an http or https address without user, password and fragment.
    """
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        raise refused_url("must be an https address") from None
    if not is_usable or not url.isascii() or not url.isprintable() or " " in url or len(url) > LONGEST_URL:
        raise refused_url("must be an https address")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise refused_url("must have no user, no password and no fragment")
    return parts


def may_reach(address: Address, networks: Sequence[AddressRange], *, tls: bool) -> bool:
    """Return whether webhooks may connect to an address.

    Addresses in `networks` are allowed. Without TLS, only these are.
    """
    inner = _embedded(address)
    if _is_listed(inner, networks):
        return True
    return tls and inner.is_global and not inner.is_multicast and not _is_listed(inner, _REFUSED)


def _is_listed(address: Address, networks: Sequence[AddressRange]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def _embedded(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 address stands for, or the address itself."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    return address


def address_of(text: str) -> Address:
    """Return the address without the zone that a resolver may add."""
    return ip_address(text.partition("%")[0])
