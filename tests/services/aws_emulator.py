"""What the stand-ins for AWS's services have in common: an endpoint, credentials that any of them takes, a process."""

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.services.ports import HOST, free_port
from tests.services.process import Process
from tests.services.seaweed import REGION, create_client
from tests.services.server import Server

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "ingestd", "AWS_SECRET_ACCESS_KEY": "only-for-tests"}


class AwsEmulator(Server):
    """Subclasses name its program and a call that it answers."""

    service: str
    region = REGION

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.port = free_port()
        self.endpoint = f"http://{HOST}:{self.port}"

    def command(self) -> list[str]:
        """The program with its arguments."""
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        """More variables of the program."""
        return {}

    def ask(self, client: Any) -> None:
        """Make a call that succeeds once the server is there."""
        raise NotImplementedError

    def client(self, service: str | None = None, config: Config | None = None) -> Any:
        """A blocking client; to be closed."""
        return create_client(
            service or self.service,
            region_name=self.region,
            endpoint_url=self.endpoint,
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
            config=config,
        )

    def prepare(self) -> Process:
        return Process(self.name, self.command(), self.directory / f"{self.name}.log", self.environment())

    def ready(self) -> bool:
        try:
            with closing(self.client()) as client:
                self.ask(client)
        except (BotoCoreError, ClientError):
            return False
        return True
