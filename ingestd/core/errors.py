"""Every error that crosses a border inside ingestd: the class says what to do, the hint what to type."""


class IngestdError(Exception):
    """Base of all. `hint` tells an operator the next step; empty where there is none."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message} ({self.hint})" if self.hint else message


class ConfigError(IngestdError):
    """The configuration cannot be used; names the key and the value. Exit code 2."""


class SourceError(IngestdError):
    """The source failed in a way that reconnecting does not mend. Exit code 1."""


class SinkError(IngestdError):
    """The store did not do as asked; `code` is its own word for why."""

    def __init__(self, message: str, *, code: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.code = code


class SinkUnavailable(SinkError):
    """Time-outs, 5xx, SlowDown, 409, lost connections: the same bytes again, for ever. It may have been applied."""


class SinkForbidden(SinkError):
    """Credentials, rights, KMS, no such bucket, disk full: hold everything and retry, but a person must act."""


class BreakerOpen(IngestdError):
    """Too much of the input is bad: stopped before a topic drains into the quarantine. Exit code 1."""


class DeadlineExceeded(IngestdError):
    """The grace time ended with data undelivered; it will be read again. Exit code 3."""


class WarehouseError(IngestdError):
    """The local warehouse did not do as asked: it refuses a statement, or cannot use its file. Exit code 1."""


class SnowflakeError(IngestdError):
    """Snowflake did not do as asked; `code` is its own number for why, or names what came instead of an answer."""

    def __init__(self, message: str, *, code: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.code = code


class SnowflakeUnavailable(SnowflakeError):
    """No answer, or one that says to come back: the same call again."""


class SnowflakeRefused(SnowflakeError):
    """Credentials, rights, a missing object, a statement that is wrong: a person must act."""


EXIT_PROBLEMS = 4  # a command has inspected something and found it wrong
