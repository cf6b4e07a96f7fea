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
_CLOCK = PINS / "clock.cjs"
_ACTIVE_S = 30.0
_CHANGES = ("CREATE_STREAM", "DELETE_STREAM", "SPLIT_SHARD", "MERGE_SHARDS", "UPDATE_SHARD_COUNT")


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

    def delete_stream(self, name: str) -> None:
        """Delete a stream; its name is free again when this returns."""
        until = time.monotonic() + _ACTIVE_S
        with closing(self.client()) as client:
            client.delete_stream(StreamName=name)
            while name in client.list_streams(Limit=100, ExclusiveStartStreamName=name[:-1])["StreamNames"]:
                assert time.monotonic() < until, f"stream {name} is not deleted after {_ACTIVE_S:g} s"
                time.sleep(0.05)

    def split(self, stream: str, shard: Mapping[str, Any]) -> None:
        """Split a shard, as ListShards has it, in the middle."""
        first, last = (int(shard["HashKeyRange"][name]) for name in ("StartingHashKey", "EndingHashKey"))
        middle = str((first + last) // 2 + 1)
        with closing(self.client()) as client:
            client.split_shard(StreamName=stream, ShardToSplit=shard["ShardId"], NewStartingHashKey=middle)
        self.wait_active(stream)

    def merge(self, stream: str, shard: Mapping[str, Any], other: Mapping[str, Any]) -> None:
        """Merge two shards that are neighbours."""
        shards = {"ShardToMerge": shard["ShardId"], "AdjacentShardToMerge": other["ShardId"]}
        with closing(self.client()) as client:
            client.merge_shards(StreamName=stream, **shards)
        self.wait_active(stream)

    def open_shards(self, stream: str) -> list[dict[str, Any]]:
        """The shards that take records, in the order of their keys."""
        with closing(self.client()) as client:
            shards = client.list_shards(StreamName=stream)["Shards"]
        still = [shard for shard in shards if "EndingSequenceNumber" not in shard["SequenceNumberRange"]]
        return sorted(still, key=lambda shard: int(shard["HashKeyRange"]["StartingHashKey"]))

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
        # Changes of a stream take half a second unless told otherwise, and an account has 50 shards.
        quick = {f"{change}_DURATION": "1ms" for change in _CHANGES}
        ports = {"KINESIS_MOCK_PLAIN_PORT": str(self.port), "KINESIS_MOCK_TLS_PORT": str(free_port())}
        return {**ports, **quick, "SHARD_LIMIT": "1000", "LOG_LEVEL": "ERROR"}


class Kinesalite(_Kinesis):
    """kinesalite: what it holds is in LevelDB, in its directory, and is there again after `kill` and `start`.

    `clock_ahead_s` is how far its clock is ahead from its next start on: by a clock that is behind, its records are of
    any age. It does not answer to AT_TIMESTAMP where no record is as young.
    """

    name = "kinesalite"
    region = "us-east-1"  # it knows no other
    clock_ahead_s = 0.0

    def command(self) -> list[str]:
        program = emulators() / "kinesalite" / "cli.js"
        # Streams are created and resharded after half a second in AWS's place; none is needed here.
        flags = ["--port", str(self.port), "--path", str(self.directory / "kinesalite"), "--createStreamMs", "10"]
        flags += ["--updateStreamMs", "10", "--deleteStreamMs", "10", "--shardLimit", "1000"]
        return [str(node_program()), "-r", str(_LOOPBACK), "-r", str(_CLOCK), str(program), *flags]

    def set_clock(self, ahead_s: float) -> None:
        """Restart it with its clock so far ahead."""
        self.kill()
        self.clock_ahead_s = ahead_s
        self._process = None  # the next one has another environment
        self.start()

    def environment(self) -> Mapping[str, str]:
        return {"INGESTD_CLOCK_AHEAD_MS": str(int(self.clock_ahead_s * 1000))}
