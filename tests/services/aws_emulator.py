"""What the stand-ins for AWS's services have in common: an endpoint, credentials that any of them takes, a process."""

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Self

from botocore.exceptions import BotoCoreError, ClientError

from tests.services.ports import HOST, free_port
from tests.services.process import Process, require_mark
from tests.services.seaweed import REGION, create_client

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "ingestd", "AWS_SECRET_ACCESS_KEY": "only-for-tests"}


class AwsEmulator:
    """A server of our own on the loopback interface. Subclasses name its program and a call that it answers."""

    name: str
    service: str
    region = REGION

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.endpoint = f"http://{HOST}:{self.port}"
        self.directory = directory
        self._process: Process | None = None

    def command(self) -> list[str]:
        """The program with its arguments."""
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        """More variables of the program."""
        return {}

    def ask(self, client: Any) -> None:
        """Make a call that succeeds once the server is there."""
        raise NotImplementedError

    def start(self) -> None:
        """Start the server, or start it again, and wait until it answers."""
        require_mark(self.name)
        assert not self.running
        log = self.directory / f"{self.name}.log"
        self._process = Process(self.name, self.command(), log, self.environment())
        self._process.start(self._answers)

    @property
    def running(self) -> bool:
        """Whether the server's process is alive."""
        return self._process is not None and self._process.running

    def kill(self) -> None:
        """End it at once (SIGKILL)."""
        if self._process is not None:
            self._process.kill()

    def freeze(self) -> None:
        """Stop its clock (SIGSTOP): connections stay open and nothing is answered."""
        assert self._process
        self._process.freeze()

    def thaw(self) -> None:
        """Let it go on (SIGCONT)."""
        assert self._process
        self._process.thaw()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def client(self, service: str | None = None) -> Any:
        """A blocking client; to be closed."""
        return create_client(
            service or self.service,
            region_name=self.region,
            endpoint_url=self.endpoint,
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        )

    def _answers(self) -> bool:
        try:
            with closing(self.client()) as client:
                self.ask(client)
        except (BotoCoreError, ClientError):
            return False
        return True
