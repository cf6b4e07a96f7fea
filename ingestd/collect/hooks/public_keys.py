"""Verifies signatures made with private keys: ECDSA of SendGrid, RSA of Amazon SNS. Pure.

The only file that uses cryptography for the collector.
"""

import base64
from datetime import datetime
from functools import lru_cache

from ingestd.core.errors import ConfigError

try:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
except ImportError:
    raise ConfigError("the package cryptography is missing", hint="pip install 'ingestd[collect]'") from None


@lru_cache(maxsize=64)
def load_ecdsa_key(text: bytes) -> ec.EllipticCurvePublicKey:
    """The P-256 key in the base64 of its DER form, as SendGrid shows it. ValueError where it is none."""
    try:
        key = serialization.load_der_public_key(base64.b64decode(text, validate=True))
    except UnsupportedAlgorithm as error:
        raise ValueError(str(error)) from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("not a public key on the curve P-256")
    return key


def is_signed_ecdsa(key: bytes, signature: bytes, content: bytes) -> bool:
    """Whether `signature`, in DER, is of this key over the SHA-256 of `content`."""
    try:
        load_ecdsa_key(key).verify(signature, content, ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, ValueError):
        return False
    return True


class SigningCertificate:
    """A certificate of Amazon SNS."""

    def __init__(self, pem: bytes) -> None:
        """ValueError where `pem` is no certificate with an RSA key."""
        try:
            certificate = x509.load_pem_x509_certificate(pem)
            key = certificate.public_key()
        except UnsupportedAlgorithm as error:
            raise ValueError(str(error)) from None
        if not isinstance(key, rsa.RSAPublicKey):
            raise ValueError("not a certificate with an RSA key")
        self._key = key
        self._from, self._to = certificate.not_valid_before_utc, certificate.not_valid_after_utc

    def is_valid_at(self, time: datetime) -> bool:
        return self._from <= time <= self._to

    def has_signed(self, content: bytes, signature: bytes, version: str) -> bool:
        """Whether `signature` is of this certificate: version 1 signs the SHA-1 of the content, 2 its SHA-256."""
        algorithm = hashes.SHA256() if version == "2" else hashes.SHA1()  # noqa: S303 - Amazon's default
        try:
            self._key.verify(signature, content, padding.PKCS1v15(), algorithm)
        except InvalidSignature:
            return False
        return True
