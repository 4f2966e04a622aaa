"""The sender checks certificates and host names, and connects only to addresses that it checked."""

import asyncio
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from api.runtime import webhook_sender

LOOPBACK = (ip_network("127.0.0.0/8"),)


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def _certificate(folder: Path, name: x509.GeneralName) -> Path:
    """Write a self-signed certificate for one name, with its key, and return the file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "receiver")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([name]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = folder / "receiver.pem"
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return file


@contextmanager
def _receiving(certificate: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def trust(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], None]]:
    """A function that makes the sender trust a certificate, as an operator does."""

    def make(certificate: Path) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        webhook_sender.tls.cache_clear()

    webhook_sender.tls.cache_clear()
    yield make
    webhook_sender.tls.cache_clear()


def _send(url: str) -> webhook_sender.Outcome:
    return asyncio.run(webhook_sender.send(url, {"content-type": "application/json"}, b"{}", LOOPBACK))


def test_an_unknown_certificate_is_refused(tmp_path: Path, trust: Callable[[Path], None]) -> None:
    with _receiving(_certificate(tmp_path, x509.IPAddress(ip_address("127.0.0.1")))) as url:
        assert _send(url).error == "tls"


def test_a_certificate_that_the_operator_trusts_is_accepted(tmp_path: Path, trust: Callable[[Path], None]) -> None:
    certificate = _certificate(tmp_path, x509.IPAddress(ip_address("127.0.0.1")))
    trust(certificate)
    with _receiving(certificate) as url:
        outcome = _send(url)
    assert (outcome.status_code, outcome.error) == (204, None)


def test_a_certificate_for_another_host_is_refused(tmp_path: Path, trust: Callable[[Path], None]) -> None:
    certificate = _certificate(tmp_path, x509.DNSName("elsewhere.example"))
    trust(certificate)
    with _receiving(certificate) as url:
        assert _send(url).error == "tls"


def test_a_name_that_leads_inside_is_refused_when_the_message_is_sent() -> None:
    outcome = asyncio.run(webhook_sender.send("https://localhost:9/", {}, b"{}", ()))
    assert (outcome.status_code, outcome.error) == (None, "refused")
