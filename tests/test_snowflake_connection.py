"""The login to Snowflake, and the mapping of its errors."""

import sys
from pathlib import Path
from typing import Any

import pytest

from ingestd.config.load import Flag, load
from ingestd.config.model import SnowflakeConfig
from ingestd.config.types import Secret
from ingestd.core.errors import ConfigError, SnowflakeRefused, SnowflakeUnavailable
from ingestd.snowflake import connection
from ingestd.snowflake.connection import classify, open_connection
from tests.services.snowflake import Snowflake as Server

FILE: dict[str, Any] = {"private_key_file": "/k.pem"}
WHO: dict[str, Any] = {"account": "org-acc", "user": "me"}


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        (FILE, {"authenticator": "SNOWFLAKE_JWT", "private_key_file": "/k.pem"}),
        (
            {**FILE, "private_key_passphrase": Secret("p")},
            {"authenticator": "SNOWFLAKE_JWT", "private_key_file": "/k.pem", "private_key_file_pwd": "p"},
        ),
        ({"authenticator": "password", "password": Secret("pw")}, {"password": "pw"}),
        ({"authenticator": "externalbrowser"}, {"authenticator": "externalbrowser"}),
    ],
)
def test_the_connector_gets_the_credentials(settings: dict[str, Any], options: dict[str, Any]) -> None:
    found = connection._options(SnowflakeConfig(**WHO, **settings))
    proofs = {"authenticator", "private_key_file", "private_key_file_pwd", "password", "token"}
    assert {name: value for name, value in found.items() if name in proofs} == options
    assert (found["account"], found["user"]) == ("org-acc", "me")
    assert "host" not in found


def test_secrets_may_come_from_files(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("from a file\n")
    file = str(tmp_path / "s")
    assert connection._options(SnowflakeConfig(**WHO, authenticator="password", password_file=file))["password"] == (
        "from a file"
    )
    assert connection._options(SnowflakeConfig(**WHO, authenticator="oauth", token_file=file))["token"] == "from a file"


def test_another_host_may_have_a_port() -> None:
    found = connection._options(SnowflakeConfig(**WHO, **FILE, host="127.0.0.1:1234", protocol="http"))
    assert (found["host"], found["port"], found["protocol"]) == ("127.0.0.1", 1234, "http")


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"user": "me", **FILE}, "snowflake.account"),
        ({"account": "a", **FILE}, "snowflake.user"),
        (WHO, "snowflake.private_key_file"),
        ({**WHO, "authenticator": "password"}, "snowflake.password_file"),
        ({**WHO, "authenticator": "oauth"}, "snowflake.token_file"),
    ],
)
def test_a_missing_setting_is_named(settings: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{key} is not set, but a connection to Snowflake needs it \(set {key}"):
        open_connection(SnowflakeConfig(**settings))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"snowflake.confirm": "true"}, "snowflake.account is not set, but snowflake.confirm = true needs it"),
        ({"snowflake.delivery": "rest"}, "snowflake.account is not set, but snowflake.delivery = rest needs it"),
        (
            {
                "snowflake.delivery": "rest", "snowflake.account": "a", "snowflake.user": "u",
                "snowflake.authenticator": "externalbrowser",
            },
            "snowflake.authenticator = externalbrowser.*is not accepted by Snowpipe's REST endpoint",
        ),
        (
            {
                "snowflake.confirm": "true", "snowflake.account": "a", "snowflake.user": "u",
                "snowflake.private_key_file": "k", "sink.url": "./data",
            },
            "sink.url = ./data.*is not a bucket, which",
        ),
    ],
)  # fmt: skip
def test_the_daemon_rejects_settings_that_cannot_reach_snowflake(flags: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(environ={}, flags=[Flag("--set", key, value) for key, value in flags.items()])


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "snowflake.connector", None)
    with pytest.raises(ConfigError, match="pip install snowflake-connector-python"):
        open_connection(SnowflakeConfig(**WHO, **FILE))


def error(name: str, number: int, state: str, message: str) -> Exception:
    """An error of the connector."""
    from snowflake.connector import errors  # noqa: PLC0415  slow to import

    made: Exception = getattr(errors, name)(msg=message, errno=number, sqlstate=state)
    return made


@pytest.mark.parametrize(
    ("name", "number", "state", "message"),
    [
        ("DatabaseError", 250001, "08001", "Failed to login: Connection refused"),
        ("OperationalError", 1, "", "whatever"),
        ("InternalError", 603, "XX000", "an incident"),
        ("DatabaseError", 604, "57014", "SQL execution was cancelled by the client due to a timeout"),
    ],
)
def test_a_transient_error_is_unavailable(name: str, number: int, state: str, message: str) -> None:
    found = classify(error(name, number, state, message), "cannot x")
    assert isinstance(found, SnowflakeUnavailable)
    assert message in str(found)


@pytest.mark.parametrize(
    ("name", "number", "state", "message", "hint"),
    [
        ("DatabaseError", 390144, "28000", "Failed to login: JWT token is invalid.", "RSA_PUBLIC_KEY"),
        ("DatabaseError", 250001, "08001", "Failed to connect: 390100: Incorrect username or password", "password"),
        ("ProgrammingError", 2003, "02000", "Pipe 'X' does not exist or not authorized.", "grants"),
        ("ProgrammingError", 606, "57P03", "No active warehouse selected", "snowflake.compute"),
        ("ProgrammingError", 1003, "42000", "syntax error", "correct the object or setting"),
    ],
)
def test_a_permanent_error_has_a_hint(name: str, number: int, state: str, message: str, hint: str) -> None:
    found = classify(error(name, number, state, message), "cannot x")
    assert isinstance(found, SnowflakeRefused)
    assert hint in found.hint


def test_an_error_of_our_own_is_not_mapped() -> None:
    assert classify(ZeroDivisionError(), "cannot x") is None
    assert isinstance(classify(ConnectionResetError("gone"), "cannot x"), SnowflakeUnavailable)


def test_a_long_error_is_truncated() -> None:
    assert len(str(classify(error("ProgrammingError", 1, "", "x" * 10_000), "cannot x"))) < 1000


# -- over the unmodified connector


def settings_of(server: Server, **changes: Any) -> SnowflakeConfig:
    keys = {name.partition(".")[2]: value for name, value in server.settings().items()}
    return SnowflakeConfig(**{**keys, **changes})


def test_a_statement_gives_columns_and_rows(snowflake: Server) -> None:
    with open_connection(settings_of(snowflake)) as open_one:
        found = open_one.execute("SELECT 1 AS ONE, 'x' AS \"Two\" UNION ALL SELECT 2, NULL ORDER BY 1")
        assert found.columns == ("one", "two")
        assert found.rows == [(1, "x"), (2, None)]
        assert open_one.execute("SELECT %(text)s AS t", {"text": "it's 100%"}).rows == [("it's 100%",)]


def test_a_wrong_statement_is_refused(snowflake: Server) -> None:
    with open_connection(settings_of(snowflake)) as open_one, pytest.raises(SnowflakeRefused) as caught:
        open_one.execute("SELECT SYSTEM$PIPE_STATUS('MARKETING.EVENTS.NONE')")
    assert caught.value.code == "002003"
    assert "does not exist or not authorized" in str(caught.value)


def test_another_user_s_key_is_refused_and_the_hint_says_what_to_check(snowflake: Server) -> None:
    with pytest.raises(SnowflakeRefused, match="RSA_PUBLIC_KEY") as caught:
        open_connection(settings_of(snowflake, user="SOMEBODY"))
    assert caught.value.code == "390144"


def test_an_unreachable_server_is_unavailable(snowflake: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "LOGIN_S", 1)
    with pytest.raises(SnowflakeUnavailable, match="cannot log in to ingestd-tests"):
        open_connection(settings_of(snowflake, host="127.0.0.1:9"))
