"""Secrets: read from values or files, and removed from everything that is printed."""

import base64
import json
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, quote_plus

from ingestd.config.keys import keys_of, value_of
from ingestd.config.model import Config
from ingestd.config.types import Secret
from ingestd.core.errors import ConfigError

_PUBLIC_FILES = {
    "kafka.ssl_ca_file",
    "kafka.ssl_cert_file",
    "kafka.schema_file",
    "registry.ssl_ca_file",
    "registry.ssl_cert_file",
}
MAX_HIDDEN = 64
MAX_SECRET_BYTES = 64 << 10
_FILE_HINT = "give a readable file with one secret: UTF-8 text of at most 64KiB"


class Redaction:
    """Removes known secrets from text. Of secrets that change at run time it keeps the latest `MAX_HIDDEN`."""

    def __init__(self) -> None:
        self._fixed: set[str] = set()
        self._passing: dict[str, None] = {}
        self._pattern: re.Pattern[str] | None = None

    def hide(self, secret: str | None, *, fixed: bool = False) -> None:
        """Remove `secret` from now on; a `fixed` one for ever. None, and texts too short for a secret, are ignored."""
        if secret is None or len(secret) < 4 or secret in self._fixed or secret in self._passing:
            return
        if fixed:
            self._fixed.add(secret)
        else:
            self._passing[secret] = None
        if len(self._passing) > MAX_HIDDEN:
            del self._passing[next(iter(self._passing))]
        # The longest first: otherwise a secret that contains another would remain in part.
        forms = {form for known in (*self._fixed, *self._passing) for form in _forms(known)}
        self._pattern = re.compile("|".join(map(re.escape, sorted(forms, key=len, reverse=True))))

    def clean(self, text: str) -> str:
        return self._pattern.sub("<redacted>", text) if self._pattern else text


def _forms(secret: str) -> tuple[str, ...]:
    """The secret itself, and how repr(), JSON, URLs and headers write it."""
    plain = secret.encode(errors="surrogateescape")
    url = quote(plain, safe=""), quote_plus(plain), quote(plain)
    return secret, repr(secret)[1:-1], json.dumps(secret)[1:-1], *url, base64.b64encode(plain).decode()


def exposed_files(config: Config, origins: Mapping[str, str]) -> Iterator[str]:
    """Tells of each file with a secret that every user of this machine may read."""
    for name, key in keys_of(config).items():
        value = value_of(config, name)
        if name.endswith("_file") and name not in _PUBLIC_FILES and isinstance(value, str):
            file = value
        elif key.is_secret and value is not None and origins[name] != "environment":
            file = origins[name]  # the configuration file
        else:
            continue
        if _is_exposed(file):
            secret = name.removesuffix("_file")
            yield f"every user of this machine can read {file}, which has {secret} (chmod o= {file})"


def _is_exposed(file: str) -> bool:
    try:
        return bool(Path(file).stat().st_mode & stat.S_IROTH)
    except (OSError, ValueError):
        return False  # whoever needs it says so


REDACTION = Redaction()
"""The redaction of this process: every log line passes through it."""


def read_secret(value: Secret | None, file: str | None) -> str | None:
    """The text of a secret: of `value`, or the content of `file` without its last newline; None if neither is set.

    Files are read at each use, because secret stores replace them at run time. The log hides the text. Raises
    ConfigError.
    """
    if value is not None or file is None:
        return value.reveal() if value is not None else None
    text = read_secret_file(file)
    REDACTION.hide(text)
    return text


def read_secret_file(file: str) -> str:
    """The content of `file` without its last newline; the log does not hide it yet. Raises ConfigError."""
    try:
        with Path(file).open("rb") as handle:
            data = handle.read(MAX_SECRET_BYTES + 1)
        text = data.decode().removesuffix("\n").removesuffix("\r")
    except (OSError, ValueError) as error:
        # Not the decoding error's text, which quotes the bytes.
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"the secret file {file} cannot be read: {why}", hint=_FILE_HINT) from None
    if not text or len(data) > MAX_SECRET_BYTES:
        raise ConfigError(f"the secret file {file} is {'too large' if text else 'empty'}", hint=_FILE_HINT)
    return text
