"""The connection to Snowflake. The only file that imports its connector; its errors are mapped here."""

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from ingestd.config.model import SnowflakeConfig
from ingestd.config.problem import refusal
from ingestd.config.secrets import REDACTION, read_secret
from ingestd.config.validate import snowflake_problems
from ingestd.core.errors import ConfigError, SnowflakeError, SnowflakeRefused, SnowflakeUnavailable

if TYPE_CHECKING:
    from snowflake.connector import SnowflakeConnection

CONNECT_S = 20
LOGIN_S = 60  # with all attempts
QUERY_S = 600
_HOST = re.compile(r"(\[.*\]|[^:]*)(?::(\d+))?")
_MESSAGE = 500  # characters of Snowflake's message in our errors

_KEY = "ALTER USER ... SET RSA_PUBLIC_KEY must have snowflake.private_key_file's key; or set this machine's clock"
_GRANTS = "grant it to the role in snowflake.role, or correct the name; `ingestd snowflake sql` prints the grants"
_HINTS = {
    "390100": "check snowflake.user and its password",
    "390114": "the session token has expired: log in again",
    "390144": _KEY,
    "390189": "snowflake.role does not exist, or is not granted to the user",
    "390201": "a database, schema or warehouse does not exist, or is not granted to the role",
    "390303": "the OAuth token is invalid: put a new one into snowflake.token_file",
    "390318": "the OAuth token has expired: put a new one into snowflake.token_file",
    "390422": "the account's network policy blocks this machine's address",
    "000606": "set snowflake.compute to a warehouse that the role may use",
    "002003": _GRANTS,
    "002043": _GRANTS,
    "003001": _GRANTS,
}


class StatementResult(NamedTuple):
    """The result of a statement: column names in lower case, and rows."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]


class Connection:
    """One session. Its methods block and may be called by one thread at a time."""

    def __init__(self, raw: "SnowflakeConnection") -> None:
        self._raw = raw

    def execute(self, sql: str, parameters: Mapping[str, object] | None = None) -> StatementResult:
        """Run one statement; `parameters` replace ``%(name)s``. Raises ``SnowflakeError``."""
        with _mapped("cannot run the statement"), self._raw.cursor() as cursor:
            cursor.execute(sql, dict(parameters) if parameters is not None else None)
            rows = [tuple(row) for row in cursor.fetchall()]
            return StatementResult(tuple(column.name.lower() for column in cursor.description or ()), rows)

    def close(self) -> None:
        """End the session. A failure is ignored: sessions expire."""
        try:
            with _mapped("cannot close the session"):
                self._raw.close()
        except SnowflakeError:
            pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_connection(settings: SnowflakeConfig) -> Connection:
    """Log in. Blocks. Raises ``ConfigError`` for unusable settings, ``SnowflakeError``."""
    options = _options(settings)
    connector = load_connector()
    # Its warnings are also raised as exceptions, or concern the environment's proxies.
    logging.getLogger("snowflake").setLevel(logging.ERROR)
    with _mapped(f"cannot log in to {settings.account}"):
        return Connection(connector.connect(**options))


def load_connector() -> ModuleType:
    """Import the connector, which takes half a second. Raises ConfigError if it is not installed."""
    try:
        import snowflake.connector  # noqa: PLC0415  an extra
    except ImportError:
        raise ConfigError(
            "the Snowflake connector is missing", hint="pip install snowflake-connector-python 'pyjwt[crypto]'"
        ) from None
    return snowflake.connector


def _options(settings: SnowflakeConfig) -> dict[str, Any]:
    """The connector's options from the checked configuration. Raises ``ConfigError``."""
    for problem in snowflake_problems(settings):
        raise refusal(problem, None, "")
    options: dict[str, Any] = {
        "account": settings.account,
        "user": settings.user,
        "role": settings.role,
        "warehouse": settings.compute,
        "database": settings.database,
        "schema": settings.schema,
        "protocol": settings.protocol,
        "application": "ingestd",
        "connect_timeout": CONNECT_S,
        "login_timeout": LOGIN_S,
        # Detection queries the cloud's metadata service, which other machines do not have.
        "platform_detection_timeout_seconds": 0.0,
        "query_timeout": QUERY_S,
        "session_parameters": {"QUERY_TAG": "ingestd", "TIMEZONE": "UTC", "CLIENT_TELEMETRY_ENABLED": False},
        # Explicit, because the default will change.
        "enable_server_session_keep_alive_auto_detection": False,
        **_credentials(settings),
    }
    if settings.host is not None:
        # An IPv6 address keeps its brackets: the connector puts the host into a URL.
        host, port = _HOST.fullmatch(settings.host).groups()  # type: ignore[union-attr]  # the model has checked it
        options |= {"host": host} | ({"port": int(port)} if port else {})
    return {name: value for name, value in options.items() if value is not None}


def _credentials(settings: SnowflakeConfig) -> dict[str, Any]:
    """The credentials."""
    match settings.authenticator:
        case "key-pair":
            passphrase = settings.private_key_passphrase
            return {
                "authenticator": "SNOWFLAKE_JWT",
                "private_key_file": settings.private_key_file,
                "private_key_file_pwd": passphrase.reveal() if passphrase else None,
            }
        case "password":
            return {"password": read_secret(settings.password, settings.password_file)}
        case "oauth":
            return {"authenticator": "oauth", "token": read_secret(None, settings.token_file)}
    return {"authenticator": "externalbrowser"}


@contextmanager
def _mapped(failed: str) -> Iterator[None]:
    """Map every error of the connector to one of ours."""
    try:
        yield
    except Exception as error:
        mapped = classify(error, failed)
        if mapped is None:
            raise
        # Not chained: the cause may show the request.
        raise mapped from None


def classify(error: Exception, failed: str) -> SnowflakeError | None:
    """Our error for an error of the connector; None if the error is not the connector's."""
    if isinstance(error, OSError):
        return SnowflakeUnavailable(f"{failed}: {_short(str(error))}", code=type(error).__name__)
    if not type(error).__module__.startswith("snowflake."):
        return None
    text = _short(str(getattr(error, "raw_msg", "") or error))
    number = getattr(error, "errno", None)
    code = f"{number:06d}" if isinstance(number, int) and number >= 0 else type(error).__name__
    # For a refused login, errno is the connector's; the server's code is in the message.
    if inner := re.search(r"\b390\d{3}\b", text):
        code = inner[0]
    message = f"{failed}: {text} [{code}]"
    if code in _HINTS or code.startswith("390"):
        return SnowflakeRefused(message, code=code, hint=_HINTS.get(code, "see Snowflake's documentation of this code"))
    if _is_transient(error, code):
        return SnowflakeUnavailable(message, code=code)
    return SnowflakeRefused(message, code=code, hint="correct the object or setting that the message names")


def _is_transient(error: Exception, code: str) -> bool:
    """Whether a retry may succeed: no connection, a time-out, an internal error."""
    state = str(getattr(error, "sqlstate", None) or "")
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return (
        state.startswith("08")
        or code.startswith(("25", "26", "000603", "000604", "000625", "000630"))
        or bool(kinds & {"OperationalError", "InternalError"})
    )


def _short(text: str) -> str:
    line = REDACTION.clean(" ".join(text.split()))
    return line if len(line) <= _MESSAGE else f"{line[:_MESSAGE]}…"
