"""Stand-ins for Kinesis: kinesis-local, which reshards, and kinesalite, which outlives SIGKILL.

What neither has: throttling. kinesis-local keeps all records for ever, in memory; a closed shard's
EndingSequenceNumber is 2^63-1 there. kinesalite has neither ChildShards nor UpdateShardCount, and trims.
"""

import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.services.aws_emulator import AwsEmulator
from tests.services.node import node_modules, node_program
from tests.services.ports import free_port

PINS = Path(__file__).with_name("emulators")
_LOOPBACK = PINS / "loopback.cjs"  # both listen on all addresses otherwise
_ACTIVE_S = 30.0


def emulators() -> Path:
    """The folder node_modules with both."""
    return node_modules(PINS, "emulators")


class _Kinesis(AwsEmulator):
    service = "kinesis"

    def ask(self, client: Any) -> None:
        client.list_streams()

    def create_stream(self, name: str, shards: int = 1) -> None:
        """Create a stream and wait until it is active."""
        with closing(self.client()) as client:
            client.create_stream(StreamName=name, ShardCount=shards)
        self.wait_active(name)

    def wait_active(self, name: str) -> None:
        """Wait until the stream has been created, or resharded."""
        until = time.monotonic() + _ACTIVE_S
        with closing(self.client()) as client:
            while (status := client.describe_stream(StreamName=name)["StreamDescription"]["StreamStatus"]) != "ACTIVE":
                assert time.monotonic() < until, f"stream {name} is {status} for {_ACTIVE_S:g} s"
                time.sleep(0.05)


class KinesisLocal(_Kinesis):
    """kinesis-local: splits and merges as AWS does. What it holds is in memory and gone with it."""

    name = "kinesis-local"

    def command(self) -> list[str]:
        main = emulators() / "kinesis-local" / "main.js"
        # It reads server.json, its certificate, from the folder where it runs.
        return ["env", "-C", str(main.parent), str(node_program()), "-r", str(_LOOPBACK), str(main)]

    def environment(self) -> Mapping[str, str]:
        return {"KINESIS_MOCK_PLAIN_PORT": str(self.port), "KINESIS_MOCK_TLS_PORT": str(free_port())}


class Kinesalite(_Kinesis):
    """kinesalite: what it holds is in LevelDB, in its directory, and is there again after `kill` and `start`."""

    name = "kinesalite"
    region = "us-east-1"  # it knows no other

    def command(self) -> list[str]:
        program = emulators() / "kinesalite" / "cli.js"
        # Streams are created and resharded after half a second in AWS's place; none is needed here.
        flags = ["--port", str(self.port), "--path", str(self.directory / "kinesalite"), "--createStreamMs", "10"]
        flags += ["--updateStreamMs", "10", "--deleteStreamMs", "10"]
        return [str(node_program()), "-r", str(_LOOPBACK), str(program), *flags]
