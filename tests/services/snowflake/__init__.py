"""Snowflake's stand-in: fakesnow's server and a simulation of Snowpipe, as a process in an environment of its own."""

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.services.environment import ensure_environment
from tests.services.ports import HOST, free_port
from tests.services.process import Process
from tests.services.seaweed import S3Store
from tests.services.server import Server

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
ROOT = Path(__file__).parents[3]


class Snowflake(Server):
    """A server that knows one user, by a key. Everything it holds is in memory and gone with it."""

    name = "Snowflake's stand-in"

    def __init__(self, directory: Path, store: S3Store, *, queue: tuple[str, str] | None = None) -> None:
        """Stages are read from `store`; `queue` is the endpoint and the URL of the queue that its bucket notifies."""
        super().__init__(directory)
        self.account, self.user = "ingestd-tests", "INGESTD"
        self.port = free_port()
        self.private_key_file = directory / "snowflake-key.pem"
        self._store = store
        self._queue = queue

    def settings(self) -> dict[str, str]:
        """Keys with which ingestd reaches it."""
        return {
            "snowflake.account": self.account,
            "snowflake.user": self.user,
            "snowflake.private_key_file": str(self.private_key_file),
            "snowflake.host": f"{HOST}:{self.port}",
            "snowflake.protocol": "http",
        }

    def connect(self, database: str = "MARKETING", schema: str = "EVENTS") -> Any:
        """A connection of the unmodified connector."""
        import snowflake.connector  # noqa: PLC0415  takes its time

        return snowflake.connector.connect(
            account=self.account, user=self.user, host=HOST, port=self.port, protocol="http", database=database,
            schema=schema, authenticator="SNOWFLAKE_JWT", private_key_file=str(self.private_key_file),
            enable_server_session_keep_alive_auto_detection=False, platform_detection_timeout_seconds=0.0,
        )  # fmt: skip

    def prepare(self) -> Process:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.private_key_file.touch(mode=0o600)
        self.private_key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        endpoint, url = self._queue or ("", "")
        options = {
            "host": HOST,
            "port": self.port,
            "s3_endpoint": self._store.endpoint,
            "access_key": self._store.access_key,
            "secret_key": self._store.secret_key,
            "queue_endpoint": endpoint,
            "queue_url": url,
            "users": {f"{self.account}.{self.user}".upper(): public.decode()},
        }
        python = ensure_environment("snowflake", REQUIREMENTS) / "bin" / "python"
        command = [str(python), "-m", "tests.services.snowflake.server", json.dumps(options)]
        # It leaves folders where temporary files are.
        environment = {"PYTHONPATH": str(ROOT), "TMPDIR": str(self.directory)}
        return Process(self.name, command, self.directory / "snowflake.log", environment)

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{HOST}:{self.port}/", timeout=5):
                return True
        except urllib.error.HTTPError as error:
            with error:
                return True
        except OSError:
            return False
