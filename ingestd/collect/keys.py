"""The keys of a source: read from its file, again when the file changes, and compared in constant time."""

import hmac
import logging
import time
from collections.abc import Callable
from pathlib import Path

from ingestd.config.secrets import REDACTION, read_secret_file
from ingestd.core.errors import ConfigError

MAX_KEYS = 2  # the old and the new one of a rotation
CHECK_EVERY_S = 1.0  # whether the file has changed

log = logging.getLogger(__name__)

_Version = tuple[int, int, int]


class Keys:
    """The valid keys in a file: one a line, without empty lines and those that begin with ``#``."""

    def __init__(self, path: str | Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Read the file. Raises ConfigError."""
        self._path = Path(path)
        self._clock = clock
        self._version = _version(self._path)
        self._keys = _read(self._path, fixed=True)
        self._checked_at = clock()

    def all(self) -> tuple[bytes, ...]:
        """The keys that are valid now. Where a changed file cannot be used, those that were valid before."""
        if self._clock() - self._checked_at >= CHECK_EVERY_S:
            self._checked_at = self._clock()
            version = _version(self._path)
            if version != self._version:
                self._read_again(version)
        return self._keys

    def matches(self, text: str) -> bool:
        """Whether `text` is a valid key, in a time that does not tell how much of it is right."""
        given = text.encode(errors="surrogatepass")
        found = False
        for key in self.all():
            found |= hmac.compare_digest(key, given)
        return found

    def _read_again(self, version: _Version | None) -> None:
        self._version = version  # also after an error, which is logged once for each change
        try:
            self._keys = _read(self._path, fixed=False)
        except ConfigError as error:
            log.warning("the changed key file is not used, the keys before it stay valid: %s", error)
        else:
            log.info("read the keys in %s again", self._path)


def _version(path: Path) -> _Version | None:
    """What changes with the file's content, also where a symbolic link is moved to another file."""
    try:
        stat = path.stat()
    except (OSError, ValueError):
        return None
    return stat.st_mtime_ns, stat.st_ino, stat.st_size


def _read(path: Path, *, fixed: bool) -> tuple[bytes, ...]:
    lines = [line.strip() for line in read_secret_file(str(path)).splitlines()]
    keys = [line for line in lines if line and not line.startswith("#")]
    if not 1 <= len(keys) <= MAX_KEYS:
        hint = "write one key a line, two during a rotation; lines that begin with # are ignored"
        raise ConfigError(f"the key file {path} has {len(keys) or 'no'} keys, and may have 1 to {MAX_KEYS}", hint=hint)
    for key in keys:
        REDACTION.hide(key, fixed=fixed)
    return tuple(key.encode() for key in keys)
