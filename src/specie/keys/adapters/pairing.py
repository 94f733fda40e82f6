"""Certificates between a bank and its signer: one pair of files each, pinned; TLS 1.3 that trusts exactly the other's.

    signer's directory      signer.pem   0600  its key and certificate
                            bank.crt     0600  the one certificate that it lets in
    what goes to the bank   bank.pem     0600  the bank's key and certificate
                            signer.crt   0600  the one certificate that the bank talks to

Keys are P-256, certificates sign themselves and can sign no other. Files are read anew for each connection, so that a renewal
needs no restart; a connection that stands goes on until it ends, also past the end of its certificates.
"""

from __future__ import annotations

import datetime
import os
import ssl
import stat
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from specie.kernel.errors import UnavailableError
from specie.keys.errors import PairingError
from specie.keys.sealing import file_checked

__all__ = ["Pairing", "make_pairing"]

_MAX_FILE_BYTES = 20_000
_EARLY = datetime.timedelta(minutes=10)
"""A clock that is a little slow may already use a new certificate."""
_AGAIN = "make new ones with specie signer pair --renew"


@dataclass(frozen=True, slots=True)
class Pairing:
    """One side's files: `identity` holds its own key and certificate, `peer` the other side's certificate."""

    identity: Path
    peer: Path

    def expires(self, now: int) -> int:
        """Unix time at which the first of the two certificates ends. PairingError if a file cannot be used `now`."""
        own = _certificate(self.identity, _read(self.identity, secret=True), now)
        other = _certificate(self.peer, _read(self.peer, secret=False), now)
        return int(min(own.not_valid_after_utc, other.not_valid_after_utc).timestamp())

    def context(self, now: int, *, server: bool) -> ssl.SSLContext:
        """TLS 1.3 as one end, which trusts `peer` alone. PairingError if a file cannot be used `now`."""
        self.expires(now)
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        made.minimum_version = ssl.TLSVersion.TLSv1_3
        made.check_hostname = False  # there is one certificate, compared whole
        made.verify_mode = ssl.CERT_REQUIRED
        if server:
            made.num_tickets = 0  # nothing is resumed: certificates are looked at each time
        try:
            made.load_cert_chain(self.identity)
        except (ssl.SSLError, OSError):
            raise PairingError(
                f"{self.identity} holds no key with its certificate; {_AGAIN}", path=str(self.identity)
            ) from None
        made.load_verify_locations(cadata=_read(self.peer, secret=False).decode("ascii", "replace"))
        return made

    def is_peer(self, certificate: bytes | None) -> bool:
        """Whether this certificate (DER), which came over a connection, is the pinned one, byte by byte."""
        try:
            pinned = ssl.PEM_cert_to_DER_cert(_read(self.peer, secret=False).decode("ascii").strip())
        except ValueError:
            return False
        return certificate == pinned


def _read(path: Path, *, secret: bool) -> bytes:
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if secret:
                facts = (status.st_mode, status.st_uid, status.st_gid)
                file_checked(facts, user=os.geteuid(), path=str(path), kind="the key file")
            elif status.st_uid not in (os.geteuid(), 0) or stat.S_IMODE(status.st_mode) & 0o022:
                raise PairingError(f"{path} belongs to another user, or others may change it", path=str(path))
            data = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise PairingError(f"{path} cannot be read: {error.strerror}", path=str(path)) from None
    if len(data) > _MAX_FILE_BYTES:
        raise PairingError(f"{path} is too long for a certificate", path=str(path))
    return data


def _certificate(path: Path, data: bytes, now: int) -> x509.Certificate:
    try:
        found = x509.load_pem_x509_certificate(data)
    except ValueError:
        raise PairingError(f"{path} holds no certificate; {_AGAIN}", path=str(path)) from None
    at = datetime.datetime.fromtimestamp(now, datetime.UTC)
    if at > found.not_valid_after_utc:
        raise PairingError(f"the certificate in {path} ended on {found.not_valid_after_utc:%Y-%m-%d}; {_AGAIN}", path=str(path))
    if at < found.not_valid_before_utc:
        reason = f"the certificate in {path} begins on {found.not_valid_before_utc:%Y-%m-%d %H:%M} UTC; is the clock right?"
        raise PairingError(reason, path=str(path))
    return found


def make_pairing(signer: Path, bank: Path, *, now: int, days: int, renew: bool = False) -> tuple[Pairing, Pairing]:
    """Make both sides' files in two directories; what each side is given then. The keys are FRESH, of P-256.

    PairingError, and no change, if a file is there already and `renew` is not said; UnavailableError if one cannot be written.
    """
    places = (signer / "signer.pem", signer / "bank.crt", bank / "bank.pem", bank / "signer.crt")
    for place in places:
        if not renew and os.path.lexists(place):
            raise PairingError(f"{place} exists; --renew replaces it", path=str(place))
    signer_key, signer_certificate = _made("specie-signer", ExtendedKeyUsageOID.SERVER_AUTH, now, days)
    bank_key, bank_certificate = _made("specie-bank", ExtendedKeyUsageOID.CLIENT_AUTH, now, days)
    contents = (signer_key + signer_certificate, bank_certificate, bank_key + bank_certificate, signer_certificate)
    for place, content in zip(places, contents, strict=True):
        _write(place, content)
    return Pairing(places[0], places[1]), Pairing(places[2], places[3])


def _made(name: str, usage: x509.ObjectIdentifier, now: int, days: int) -> tuple[bytes, bytes]:
    """A key and its certificate, both PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    called = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    at = datetime.datetime.fromtimestamp(now, datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(called)
        .issuer_name(called)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - _EARLY)
        .not_valid_after(at + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    )
    certificate = builder.sign(key, SHA256())
    return (
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        certificate.public_bytes(Encoding.PEM),
    )


def _write(place: Path, content: bytes) -> None:
    """A durable file of mode 0600, in place of the old one at once; where root renews it, it stays its user's."""
    temporary = place.with_name(f".{place.name}.{os.getpid()}.tmp")
    try:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            if os.geteuid() == 0 and place.exists():
                before = place.stat()
                os.fchown(file.fileno(), before.st_uid, before.st_gid)
        temporary.replace(place)
    except OSError as error:
        raise UnavailableError(f"{place} cannot be written: {error.strerror}", retry_after_s=5.0) from error
