"""Where webhooks may go, and how their messages are signed."""

import base64
import hashlib
import hmac
from ipaddress import ip_address, ip_network

import pytest

from api.domain.errors import InvalidError
from api.domain.webhooks import PAUSES_S, may_reach, parsed_url, pause_after, secret_of, signed_headers

REFUSED = (
    "127.0.0.1",
    "10.1.2.3",
    "169.254.169.254",
    "168.63.129.16",
    "224.0.0.1",
    "0.0.0.0",
    "100.64.0.1",
    "::1",
    "fd00::1",
    "fe80::1",
    "ff0e::1",
    "::ffff:127.0.0.1",
    "64:ff9b::10.0.0.1",
    "2002:0a00:0001::1",
    "2001:0:4136:e378:8000:63bf:f5ff:fffe",
)


@pytest.mark.parametrize("text", REFUSED)
def test_addresses_inside_networks_are_refused(text: str) -> None:
    assert not may_reach(ip_address(text), (), tls=True)


@pytest.mark.parametrize("text", ["93.184.216.34", "2606:2800:220:1::1", "::ffff:93.184.216.34"])
def test_public_addresses_need_tls(text: str) -> None:
    assert may_reach(ip_address(text), (), tls=True)
    assert not may_reach(ip_address(text), (), tls=False)


@pytest.mark.parametrize("text", ["127.0.0.1", "::ffff:127.0.0.1"])
def test_a_listed_network_may_be_reached_without_tls(text: str) -> None:
    assert may_reach(ip_address(text), (ip_network("127.0.0.0/8"),), tls=False)
    assert not may_reach(ip_address("10.0.0.1"), (ip_network("127.0.0.0/8"),), tls=True)


@pytest.mark.parametrize(
    "url", ["ftp://a.example", "https://", "https://u:p@a.example", "https://a.example/#x", "https://a b", "https://a:x", "a"]
)
def test_a_malformed_address_is_refused(url: str) -> None:
    with pytest.raises(InvalidError) as refusal:
        parsed_url(url)
    assert refusal.value.code == "webhook_url_refused"


def test_the_pauses_grow_for_a_day() -> None:
    assert list(PAUSES_S) == sorted(PAUSES_S)
    assert 23 * 3600 < sum(PAUSES_S) < 24 * 3600
    assert pause_after(len(PAUSES_S)) is not None
    assert pause_after(len(PAUSES_S) + 1) is None


def test_the_shown_secret_signs_the_message() -> None:
    headers = signed_headers(["k" * 32], "hook_1", "msg_1", 1700000000, b'{"a":1}')
    key = base64.b64decode(secret_of("k" * 32, "hook_1").removeprefix("whsec_"))
    expected = hmac.digest(key, b'msg_1.1700000000.{"a":1}', hashlib.sha256)
    assert headers["webhook-signature"] == f"v1,{base64.b64encode(expected).decode()}"
    both = signed_headers(["n" * 32, "k" * 32], "hook_1", "msg_1", 1700000000, b'{"a":1}')["webhook-signature"]
    assert both.split()[1] == headers["webhook-signature"]
    assert secret_of("k" * 32, "hook_1") != secret_of("k" * 32, "hook_2")
