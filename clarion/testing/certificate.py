"""A certificate authority for tests: trusted by whoever is given its file, and by nobody else."""

from __future__ import annotations

import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

_LIFE = timedelta(days=1)


class CertificateAuthority:
    """Makes certificates for servers; its own is in `ca_file` (PEM), below `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("Clarion test authority")
        builder = _builder(self._name, self._name, self._key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        certificate = builder.sign(self._key, SHA256())
        self.ca_file = directory / "ca.pem"
        self.ca_file.write_bytes(certificate.public_bytes(Encoding.PEM))

    def server_file(self, host: str = "127.0.0.1", *, is_expired: bool = False) -> Path:
        """Make a certificate for `host` (a name or an IP address); the file holds its key too."""
        key = ec.generate_private_key(ec.SECP256R1())
        age = 10 * _LIFE if is_expired else timedelta()
        builder = _builder(_name(host), self._name, key.public_key(), age)
        builder = builder.add_extension(x509.SubjectAlternativeName([_alternative(host)]), False)
        certificate = builder.sign(self._key, SHA256())
        file = self._directory / f"{host.replace(':', '_')}-{certificate.serial_number}.pem"
        file.write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            + certificate.public_bytes(Encoding.PEM)
        )
        return file

    def server_context(
        self, host: str = "127.0.0.1", *, is_expired: bool = False
    ) -> ssl.SSLContext:
        """Return what a server for `host` (a name or an IP address) needs."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.server_file(host, is_expired=is_expired))
        return context


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    age: timedelta = timedelta(),
) -> x509.CertificateBuilder:
    begin = datetime.now(UTC) - _LIFE / 2 - age
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + 2 * _LIFE)
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
