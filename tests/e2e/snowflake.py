"""A table, a stage and a pipe of a test's own on the stand-in for Snowflake, and daemons that write for them."""

import asyncio
import json
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ingestd.config.load import Flag, load
from ingestd.config.model import Config
from ingestd.core.events import make_model
from ingestd.snowflake import ddl
from ingestd.snowflake.connection import Connection, open_connection
from ingestd.snowflake.stage_location import stage_location
from ingestd.snowflake.table import columns
from tests.e2e.daemon import Daemon, credentials
from tests.services.ministack import Ministack, Queue
from tests.services.snowflake import Snowflake


class Rig:
    """One bucket, one schema, one topic. Commands run as processes, as people run them."""

    def __init__(
        self, store: Ministack, queue: Queue, server: Snowflake, daemon_keys: Mapping[str, str], folder: Path
    ) -> None:
        self.store = store
        self._queue = queue
        self._daemons: list[Daemon] = []
        self.bucket = f"test-{uuid.uuid4().hex}"
        self.schema = f"S{uuid.uuid4().hex[:12].upper()}"
        self._folder = folder
        self.keys = {
            **daemon_keys,
            **server.settings(),
            "sink.url": f"s3://{self.bucket}/some/where",
            "snowflake.schema": self.schema,
            "s3.addressing": "path",
        }
        self.environment = credentials(store)
        store.create_bucket(self.bucket)

    def close(self) -> None:
        """Kill its daemons."""
        for daemon in self._daemons:
            daemon.kill()

    def daemon(self, name: str, more: Mapping[str, str] | None = None) -> Daemon:
        """One that is not started yet."""
        self._daemons.append(daemon := Daemon(name, self._folder, {**self.keys, **(more or {})}, self.environment))
        return daemon

    def notify(self, prefix: str) -> None:
        """Have the bucket tell the pipe's queue of new objects."""
        self.store.notify(self.bucket, self._queue, prefix)

    def connect(self) -> Connection:
        """As the commands connect."""
        return open_connection(self.config.snowflake)

    def set_up(self, connection: Connection) -> None:
        """What `ingestd snowflake apply` makes, as far as the stand-in goes."""
        config = self.config
        place = stage_location(config)._replace(endpoint="")
        rows = columns(make_model())
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {config.snowflake.database}.{self.schema}")
        for statement in (*ddl.table(config.snowflake, place, rows, []), *ddl.pipe(config.snowflake, rows, "select")):
            connection.execute(statement.text)

    def rows(self, connection: Connection) -> list[tuple[Any, ...]]:
        """Event ids, files and row numbers in the table."""
        sql = f"SELECT event_id, file_name, file_row_number FROM MARKETING.{self.schema}.MARKETING_EVENTS"  # noqa: S608
        return connection.execute(sql).rows

    async def command(self, *words: str, more: Mapping[str, str] | None = None) -> tuple[int, str, str]:
        """Run `ingestd snowflake` with these words: exit code, output, log."""
        keys = {**self.keys, **(more or {})}
        flags = [part for key, value in keys.items() for part in ("--set", f"{key}={value}")]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "ingestd", "snowflake", *words, *flags, cwd=self._folder, env=self.environment,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        output, log = await process.communicate()
        assert process.returncode is not None
        return process.returncode, output.decode(), log.decode()

    async def reconcile(self, **more: str) -> tuple[int, Any]:
        """The exit code and the report as JSON."""
        code, output, log = await self.command(
            "reconcile", "--json", more={name.replace("__", "."): value for name, value in more.items()}
        )
        assert output, log
        return code, json.loads(output)

    @property
    def config(self) -> Config:
        """What its daemons run with."""
        return load(environ={}, flags=[Flag("--set", key, value) for key, value in self.keys.items()]).config
