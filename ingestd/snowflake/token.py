"""Key-pair tokens for Snowflake's REST endpoints. The private key is used in this file only."""

import base64
import hashlib
from datetime import datetime, timedelta
from pathlib import Path

from ingestd.config.model import SnowflakeConfig
from ingestd.config.secrets import REDACTION
from ingestd.core.errors import ConfigError

LIFETIME = timedelta(minutes=59)  # Snowflake accepts at most one hour
_KEY_BYTES_MAX = 64 << 10


def token(settings: SnowflakeConfig, now: datetime) -> str:
    """A new token. The key file is read each time, because keys are rotated. Raises ConfigError."""
    try:
        import jwt  # noqa: PLC0415  an extra
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
    except ImportError:
        raise ConfigError(
            "a package of the snowflake extra is missing", hint="pip install snowflake-connector-python 'pyjwt[crypto]'"
        ) from None
    file = settings.private_key_file or ""
    passphrase = settings.private_key_passphrase
    try:
        with Path(file).open("rb") as handle:
            pem = handle.read(_KEY_BYTES_MAX)
        key = serialization.load_pem_private_key(pem, passphrase.reveal().encode() if passphrase else None)
        public = key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        who = subject(settings)
        claims = {
            "iss": f"{who}.SHA256:{base64.b64encode(hashlib.sha256(public).digest()).decode()}",
            "sub": who,
            "iat": int(now.timestamp()),
            "exp": int((now + LIFETIME).timestamp()),
        }
        signed = jwt.encode(claims, key, algorithm="RS256")  # type: ignore[arg-type]  # raises for other kinds of keys
    except OSError as error:
        raise ConfigError(f"snowflake.private_key_file = {file} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, jwt.PyJWTError):
        # Not chained: such errors may quote the key.
        raise ConfigError(
            f"snowflake.private_key_file = {file} has no RSA key in PEM format that can be read",
            hint="use PKCS #8; for an encrypted key, set INGESTD__SNOWFLAKE__PRIVATE_KEY_PASSPHRASE",
        ) from None
    REDACTION.hide(signed)
    return signed


def subject(settings: SnowflakeConfig) -> str:
    """The token's subject, ACCOUNT.USER: upper case, without the region of an account locator."""
    account = (settings.account or "").upper()
    return f"{account.partition('.')[0]}.{(settings.user or '').upper()}"
