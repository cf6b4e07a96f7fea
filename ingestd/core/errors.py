"""The errors of ingestd: the class tells the caller what to do, the hint tells an operator."""

from collections.abc import Sequence


class IngestdError(Exception):
    """Base class. `hint` tells an operator the next step; empty if there is none."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class ConfigError(IngestdError):
    """The configuration cannot be used; names the key and the value. Exit code 2.

    `excerpt` has the lines of a file that show where; empty where the message says it all.
    """

    def __init__(self, message: str, *, hint: str = "", excerpt: Sequence[str] = ()) -> None:
        super().__init__(message, hint=hint)
        self.excerpt = tuple(excerpt)


class ConfigErrors(ConfigError):
    """Several errors of one configuration, to be mended together."""

    def __init__(self, errors: Sequence[ConfigError]) -> None:
        super().__init__("; ".join(map(str, errors)))
        self.errors = tuple(errors)


class SourceError(IngestdError):
    """The source failed and reconnecting does not help. Exit code 1."""


class RecordsRefused(SourceError):
    """The topic refused at least one record of a transaction, which was aborted."""


class JournalError(SourceError):
    """The journal cannot be used, or did not do what it was asked to: records handed to it may not be safe."""


class JournalInUseError(JournalError):
    """Another process has the journal open."""


class JournalFullError(JournalError):
    """Neither the journal's bound nor the disk leaves room. What is in the journal can still be read and discarded."""


class SinkError(IngestdError):
    """A call to the store failed; `code` is the store's error code."""

    def __init__(self, message: str, *, code: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.code = code


class SinkUnavailable(SinkError):
    """Time-outs, 5xx, SlowDown, 409, lost connections: retry the same bytes for ever. It may have been applied."""


class SinkForbidden(SinkError):
    """Credentials, rights, KMS, no such bucket, disk full: buffer and retry, but an operator must act."""


class BreakerOpen(IngestdError):
    """Too many records were rejected: stop before a whole topic goes to the quarantine. Exit code 1."""


class DeadlineExceeded(IngestdError):
    """The grace time ended with records undelivered; they will be read again. Exit code 3."""


class WarehouseError(IngestdError):
    """The local warehouse refuses a statement or cannot use its file. Exit code 1."""


class SnowflakeError(IngestdError):
    """A call to Snowflake failed; `code` is its error number, or names what came instead of an answer."""

    def __init__(self, message: str, *, code: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.code = code


class SnowflakeUnavailable(SnowflakeError):
    """No answer, or one that asks to try later: retry the call."""


class SnowflakeRefused(SnowflakeError):
    """Credentials, rights, a missing object, a wrong statement: an operator must act."""


EXIT_INTERRUPTED = 130  # a signal came before anything had begun
EXIT_PROBLEMS = 4  # a command has inspected something and found it wrong
