"""`ingestd snowflake apply`: runs the statements of `sql`. All can be repeated, so a second run continues."""

import textwrap
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import click
import msgspec
from msgspec.structs import replace

from ingestd import wiring
from ingestd.cli.flags import SETTINGS, CommandFlag
from ingestd.cli.output import say, say_line
from ingestd.cli.snowflake.flags import STAGE, STYLE
from ingestd.config.load import Settings
from ingestd.config.model import Config, SnowflakeConfig
from ingestd.core.errors import EXIT_PROBLEMS, ConfigError, SnowflakeError, SnowflakeRefused
from ingestd.core.events import load_model
from ingestd.core.formatting import number
from ingestd.snowflake import bucket, drift
from ingestd.snowflake.connection import Connection, StatementResult, open_connection
from ingestd.snowflake.drift import Drift
from ingestd.snowflake.pipe import Style
from ingestd.snowflake.sql import setup, trust
from ingestd.snowflake.stage_location import SUFFIX, stage_location
from ingestd.snowflake.statements import SetupPart, Statement, text
from ingestd.snowflake.table import Column, columns_of

EXAMPLES = """\
examples:
  ingestd snowflake apply --config config/production.toml --dry-run
  ingestd snowflake apply --config config/production.toml --notify
"""

FLAGS: list[click.Parameter] = [
    STAGE,
    STYLE,
    CommandFlag("--dry-run", is_flag=True, section="Snowflake", help="show the statements without running them"),
    CommandFlag(
        "--notify", is_flag=True, section="Snowflake", help="also make the bucket notify the queue of the pipe"
    ),
    *SETTINGS,
]


class Options(msgspec.Struct, frozen=True):
    """What the flags say."""

    style: Style = "select"
    dry_run: bool = False
    notify: bool = False


def run(settings: Settings, options: Options) -> int:
    """Run all statements in order. Returns 0, or EXIT_PROBLEMS if an operator must act."""
    config = settings.config
    if options.notify and config.snowflake.delivery != "notification":
        raise ConfigError(
            f"--notify: snowflake.delivery = {config.snowflake.delivery} does not use notifications",
            hint="omit --notify, or set snowflake.delivery to notification",
        )
    model = load_model(config.events.model)
    parts = setup(config, model, options.style)
    if options.dry_run:
        for part in parts:
            for statement in part.statements:
                _show(statement)
                say_line("would", f"run it as {statement.role}")
        return 0
    # Each statement names its role; the configured role may not exist yet.
    with open_connection(replace(config.snowflake, role=None)) as connection:
        application = Application(config, columns_of(config, model), options.style, connection)
        application.run(parts)
    if options.notify:
        application.notify()
    return application.end()


class Application:
    """Runs the statements over one connection, and stops at the first that fails."""

    def __init__(self, config: Config, columns: Sequence[Column], style: Style, connection: Connection) -> None:
        self._config = config
        self._columns = columns
        self._style = style
        self._connection = connection
        self._role = ""
        self._missing_roles: dict[str, str] = {}  # reason by role
        self._identities: list[dict[str, str]] = []
        self._done = 0
        self._left: list[str] = []
        self._drifts: list[Drift] = []
        self._queue_arn = ""

    def run(self, parts: Sequence[SetupPart]) -> None:
        """Run each statement. Raises SnowflakeError after the failed statement was printed."""
        for part in parts:
            say(f"\n-- {part.title}\n")
            for statement in part.statements:
                self._run(statement)
            if any(statement.describes in {"storage", "errors"} for statement in part.statements) and self._identities:
                document = trust(self._config, self._identities)
                say_line("AWS", f"{document.comment}:")
                say(textwrap.indent(text(document), "       "))

    def notify(self) -> None:
        """Make the bucket notify the queue of the pipe. Raises SinkError."""
        from ingestd.sinks.s3_notification import change_notification  # noqa: PLC0415  slow to import

        location, config = stage_location(self._config), self._config
        if not self._queue_arn:
            self._left.append(f"the notification of s3://{location.bucket}: the pipe has no queue")
            return
        ours = bucket.notification(location, self._queue_arn)
        change = partial(bucket.merged, ours=ours)
        changed = wiring.run(change_notification(config.sink.url, config.s3, change))
        verb = "now notifies" if changed else "notifies"
        say_line("ok", f"s3://{location.bucket} {verb} {self._queue_arn} of {location.events}*{SUFFIX}")

    def end(self) -> int:
        """Print what is left to do; returns the exit code."""
        say(f"\n{number(self._done, 'statement')} done, {len(self._left)} left for another user\n")
        for role, why in self._missing_roles.items():
            say_line("left", f"all statements of role {role}: this user cannot use it: {why}")
        for left in self._left:
            say_line("left", left)
        for it in self._drifts:
            say_line("WRONG", f"{it.difference} -> {it.remedy}")
        return EXIT_PROBLEMS if self._left or self._drifts else 0

    def _run(self, statement: Statement) -> None:
        _show(statement)
        if not self._has_role(statement.role):
            say_line("left", f"for a user with the role {statement.role}")
            self._left.append(statement.name)
            return
        try:
            result = self._execute(statement)
        except SnowflakeError:
            say_line(
                "FAILED",
                f"{statement.name}: correct it and run this again; existing objects do not change",
            )
            raise
        self._done += 1
        message = str(result.rows[0][0]) if len(result.rows) == 1 and not statement.describes else ""
        say_line("ok", message or statement.name)
        self._drifts += self._compare(statement, result)

    def _execute(self, statement: Statement) -> StatementResult:
        if not statement.check:
            return self._connection.execute(statement.text)
        try:
            return self._connection.execute(statement.check)
        except SnowflakeRefused as error:
            hint = "run its CREATE statement by hand with keys that can only read, then run this command again"
            raise SnowflakeRefused(f"{statement.name} does not exist", code=error.code, hint=hint) from error

    def _has_role(self, role: str) -> bool:
        if role in self._missing_roles or role == self._role:
            return role == self._role
        try:
            self._connection.execute(f"USE ROLE {role}")
        except SnowflakeRefused as error:
            self._missing_roles[role] = str(error)
            return False
        self._role = role
        return True

    def _compare(self, statement: Statement, result: StatementResult) -> Iterable[Drift]:
        """The differences between the object in Snowflake and the configuration."""
        config, snowflake = self._config, self._config.snowflake
        rows = [dict(zip(result.columns, row, strict=True)) for row in result.rows]
        match statement.describes:
            case "storage" | "errors":
                properties = {str(row["property"]): str(row["property_value"]) for row in rows}
                self._identities.append(properties)
                if statement.describes == "storage":
                    return drift.of_storage(properties, snowflake, stage_location(config))
            case "table":
                return drift.of_table(rows, snowflake, self._columns)
            case "pipe":
                pipe = next((row for row in rows if _is_ours(row, snowflake)), None)
                if pipe is None:
                    return [Drift(f"SHOW PIPES does not list {snowflake.pipe}", "check that the role owns the pipe")]
                self._queue_arn = str(pipe.get("notification_channel") or "")
                return drift.of_pipe(pipe, snowflake, self._columns, self._style)
        return ()


def _is_ours(row: dict[str, Any], snowflake: SnowflakeConfig) -> bool:
    """Whether a row of SHOW PIPES is our pipe: in LIKE, "_" matches any character."""
    names = (row["database_name"], row["schema_name"], row["name"])
    ours = (snowflake.database, snowflake.schema, snowflake.pipe)
    return [str(name).upper() for name in names] == [name.upper() for name in ours]


def _show(statement: Statement) -> None:
    say(f"\n{textwrap.indent(statement.text, '    ')}\n")
