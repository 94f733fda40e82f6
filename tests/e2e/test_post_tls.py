"""Posting a payment over real TLS: the connection goes to the address that was looked at, and the certificate is the name's."""

from __future__ import annotations

import asyncio
import datetime
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from specie.kernel.errors import UnavailableError
from specie.wallet.adapters.post import HttpPaymentPost

pytestmark = [pytest.mark.e2e, pytest.mark.network]


def certificate(directory: Path, name: str) -> tuple[Path, Path]:
    """A key and a certificate that it signs itself, for one name."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    key_file, certificate_file = directory / "key.pem", directory / "cert.pem"
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    certificate_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return key_file, certificate_file


def test_certificate_must_be_of_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The right name is posted to; a server whose certificate is for another name, or of nobody we trust, gets nothing."""
    key, chain = certificate(tmp_path, "shop.test")
    bodies: list[bytes] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        bodies.append((await receive())["body"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    async def main() -> None:
        server = uvicorn.Server(
            uvicorn.Config(app, port=0, log_level="critical", lifespan="off", ssl_keyfile=str(key), ssl_certfile=str(chain))
        )
        serving = asyncio.ensure_future(server.serve())
        while not server.started:
            await asyncio.sleep(0.02)
        port = server.servers[0].sockets[0].getsockname()[1]

        async def getaddrinfo(host: str, wanted: int, **_: object) -> list[Any]:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", wanted))]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
        trusting = HttpPaymentPost(allow_private=True, verify=ssl.create_default_context(cafile=str(chain)))
        await trusting.post(f"https://shop.test:{port}/pay", b"money")
        assert bodies == [b"money"]
        with pytest.raises(UnavailableError):
            await trusting.post(f"https://thief.test:{port}/pay", b"money")
        stranger = HttpPaymentPost(allow_private=True)
        with pytest.raises(UnavailableError):
            await stranger.post(f"https://shop.test:{port}/pay", b"money")
        assert bodies == [b"money"]
        await trusting.close()
        await stranger.close()
        server.should_exit = True
        await serving

    asyncio.run(main())
