"""Logging: JSON lines for machines, text for people, and levels by consequence.

INFO is the life cycle. WARNING: nothing is lost, and the daemon recovers. ERROR: an operator must act, and the line
says what to do.
"""

import copy
import json
import logging
import math
import sys
from datetime import UTC, datetime
from typing import NamedTuple, TextIO

from ingestd.config.model import LogConfig
from ingestd.config.secrets import REDACTION
from ingestd.core.formatting import number

MAX_FIELD_CHARS = 16 << 10
MAX_REPEATED = 1000  # messages whose last time is known
_STANDARD_FIELDS = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
_OUR_FIELDS = ("ts", "level", "logger", "message", "exception")
# Characters that move a cursor, end a line, or change the direction of the text.
_CONTROL = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))} | {
    code: f"\\u{code:04x}" for code in (0x61C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A))
}
_MULTILINE = {code: text for code, text in _CONTROL.items() if code not in {0x09, 0x0A}}


def _is_number(value: object) -> bool:
    """Whether JSON has a number or a boolean for `value`."""
    return isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))


class _Formatter(logging.Formatter):
    """What both forms share: fields are redacted and bounded."""

    def text(self, value: object) -> str:
        text = REDACTION.clean(str(value))
        return text if len(text) <= MAX_FIELD_CHARS else f"{text[:MAX_FIELD_CHARS]}… ({len(text)} characters)"

    def time(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def fields(self, record: logging.LogRecord) -> dict[str, object]:
        return {
            name: value if value is None or _is_number(value) else self.text(value)
            for name, value in record.__dict__.items()
            if name not in _STANDARD_FIELDS and name not in _OUR_FIELDS
        }

    def exception(self, record: logging.LogRecord) -> str:
        """The traceback; of a long one the end, which matters most."""
        parts = [self.formatException(record.exc_info)] if record.exc_info and record.exc_info[0] else []
        if record.stack_info:
            parts.append(record.stack_info)
        return REDACTION.clean("\n".join(parts))[-MAX_FIELD_CHARS:]


class JsonFormatter(_Formatter):
    """One JSON object a line: ts (UTC, RFC 3339), level, logger, message, the record's `extra`, exception."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, object] = {
            "ts": self.time(record),
            "level": record.levelname,
            "logger": record.name,
            "message": self.text(record.getMessage()),
            **self.fields(record),
        }
        if exception := self.exception(record):
            fields["exception"] = exception
        return json.dumps(fields)


class TextFormatter(_Formatter):
    """One line for a person: time, level, message, name=value of each extra, logger; then the traceback.

    Control characters are escaped: data from events must not move a terminal's cursor or forge a line.
    """

    def format(self, record: logging.LogRecord) -> str:
        extra = "".join(f" {name}={value}" for name, value in self.fields(record).items())
        line = f"{self.time(record)} {record.levelname:<7} {self.text(record.getMessage())}{extra} ({record.name})"
        exception = self.exception(record)
        return line.translate(_CONTROL) + (f"\n{exception.translate(_MULTILINE)}" if exception else "")


class ConsequenceFilter(logging.Filter):
    """Lowers aiokafka's errors to warnings: it retries, and what it cannot recover from is raised as an exception.

    Tracebacks of the S3 client are removed: the last line of one may be the output of a credential process.
    """

    def __init__(self, level: int) -> None:
        super().__init__()
        self._level = level

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.partition(".")[0] == "aiokafka" and record.levelno > logging.WARNING:
            record.levelno, record.levelname = logging.WARNING, logging.getLevelName(logging.WARNING)
        if record.name.partition(".")[0] in {"botocore", "aiobotocore"}:
            record.exc_info = record.exc_text = None
        return record.levelno >= self._level


class RepeatFilter(logging.Filter):
    """Passes each message of aiokafka once a minute: while a broker is down it logs several a second."""

    INTERVAL_S = 60.0

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[tuple[str, str], float] = {}  # by logger and unformatted message

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.partition(".")[0] != "aiokafka":
            return True
        kind = record.name, str(record.msg)
        if record.created - self._last.get(kind, -self.INTERVAL_S) < self.INTERVAL_S:
            return False
        if len(self._last) >= MAX_REPEATED:
            self._last.clear()
        self._last[kind] = record.created
        return True


class _Handler(logging.StreamHandler[TextIO]):
    """Our handler on the root logger. It works on a copy, because the filters change a record."""

    def handle(self, record: logging.LogRecord) -> bool:
        return bool(super().handle(copy.copy(record)))


def setup(log: LogConfig, *, quiet_console: bool = False, stream: TextIO | None = None) -> None:
    """Send all logging to `stream` (stderr) in the configured form; a second call replaces the first.

    Libraries log from WARNING up. With `quiet_console` so do we, because a table is drawn on the terminal.
    """
    stream = stream or sys.stderr
    level = logging.getLevelNamesMapping()[log.level]
    libraries = max(level, logging.WARNING)
    shown = libraries if quiet_console else level
    text = stream.isatty() if log.format == "auto" else log.format == "text"
    handler = _Handler(stream)
    handler.setFormatter(TextFormatter() if text else JsonFormatter())
    handler.addFilter(ConsequenceFilter(shown))
    if level > logging.DEBUG:
        handler.addFilter(RepeatFilter())
    root = logging.getLogger()
    for previous in [known for known in root.handlers if isinstance(known, _Handler)]:
        root.removeHandler(previous)
    root.addHandler(handler)
    root.setLevel(libraries)
    logging.getLogger("ingestd").setLevel(level)
    for library in ("aiokafka", "botocore", "aiobotocore", "aiohttp.access", "asyncio"):
        logging.getLogger(library).setLevel(libraries)


class Ended(NamedTuple):
    """An outage that has ended: how long it lasted, and how many tries failed."""

    seconds: float
    tries: int

    def __str__(self) -> str:
        return f"after {self.seconds:.1f} s and {number(self.tries, 'try', 'tries')}"


class Outage:
    """One log line when an outage begins and one when it ends, however many tries fail between.

    ``if outage.begin(now): log.warning("the sink is down")``, ``if ended := outage.end(now): log.info("… %s", ended)``.
    `now` is any monotonic time in seconds.
    """

    __slots__ = ("_since", "_tries")

    def __init__(self) -> None:
        self._since: float | None = None
        self._tries = 0

    def begin(self, now: float) -> bool:
        """Count a failed try; true where the outage begins with it."""
        self._tries += 1
        if self._since is not None:
            return False
        self._since = now
        return True

    def end(self, now: float) -> Ended | None:
        """The outage that ends now; None where there was none."""
        if self._since is None:
            return None
        ended = Ended(now - self._since, self._tries)
        self._since, self._tries = None, 0
        return ended
