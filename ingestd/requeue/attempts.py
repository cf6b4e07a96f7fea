"""What was put again of one quarantine object, where the target has no transactions: Kinesis and SQS.

Before records are put, an object says which: the intent. After it, another one says what became of them: the outcome.

    requeued/[lineage/]to={target}/{name of the quarantine object}/{number:06d}-intent.json.gz
    requeued/[lineage/]to={target}/{name of the quarantine object}/{number:06d}-outcome.json.gz

Records are named by their lines in the quarantine object, which never changes. An intent without its outcome is that of
a run which died, or goes on: nobody can tell whether its records were put. Intents are numbered and created only where
the name is free, so of two runs at once one notices the other before it puts a record.
"""

import re
import secrets
from collections.abc import Sequence

import msgspec

from ingestd.core.errors import IngestdError
from ingestd.core.object_keys import QUARANTINE, REQUEUED
from ingestd.core.stored import Stored
from ingestd.requeue.documents import Documents

_NAME = re.compile(r"(?P<number>\d{6})-(?P<kind>intent|outcome)\.json\.gz", re.ASCII)


class Intent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The lines that are about to be put, by a run with a name of its own."""

    lines: tuple[int, ...]
    run: str


class Outcome(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The lines that were put, and those that the target refused: these may be put another time."""

    produced: tuple[int, ...]
    refused: tuple[int, ...] = ()


class Attempts:
    """The attempts on one quarantine object: read by `load`, then added to by one run."""

    def __init__(self, documents: Documents, folder: str) -> None:
        """`folder` is that of the quarantine object's attempts."""
        self.produced: set[int] = set()
        self.unclear: set[int] = set()  # put by an attempt whose outcome is not known
        self._documents = documents
        self._folder = folder
        self._number = 0
        self._run = secrets.token_hex(8)

    async def load(self) -> None:
        """Read what earlier runs have left. Errors: ``IngestdError`` where an object is damaged."""
        intents: dict[int, Intent] = {}
        outcomes: dict[int, Outcome] = {}
        async for key in self._documents.listing.keys(self._folder):
            if (match := _NAME.fullmatch(key.removeprefix(self._folder))) is None:
                continue
            number = int(match["number"])
            if match["kind"] == "intent":
                intents[number] = await self._documents.read(key, Intent)
            else:
                outcomes[number] = await self._documents.read(key, Outcome)
        self._number = max(intents, default=0)
        for number, intent in intents.items():
            if (outcome := outcomes.get(number)) is None:
                self.unclear |= {*intent.lines}
            else:
                self.produced |= {*outcome.produced}
        self.unclear -= self.produced

    async def begin(self, lines: Sequence[int]) -> int:
        """Write an intent; its number. Errors: ``IngestdError`` where another run has written one meanwhile."""
        number = self._number + 1
        key, intent = f"{self._folder}{number:06d}-intent.json.gz", Intent(tuple(lines), self._run)
        exists = await self._documents.create(key, intent) is Stored.EXISTS
        # A repeated PUT may meet what its first attempt, whose answer was lost, has written.
        if exists and await self._documents.read(key, Intent) != intent:
            raise IngestdError(
                f"another requeue works on the same objects: {key} exists",
                hint="wait until it has ended and run it again: what it has put is not put twice",
            )
        self._number = number
        return number

    async def end(self, number: int, outcome: Outcome) -> None:
        """Write what became of the records of an intent."""
        await self._documents.create(f"{self._folder}{number:06d}-outcome.json.gz", outcome)
        self.produced |= {*outcome.produced}


def attempts_folder(quarantine_root: str, target: str, quarantine_key: str) -> str:
    """The folder of a quarantine object's attempts; `quarantine_root` is that of its lineage's quarantine."""
    lineage = quarantine_root.removeprefix(QUARANTINE)
    name = quarantine_key.rpartition("/")[2].removesuffix(".jsonl.gz")
    return f"{REQUEUED}{lineage}to={target}/{name}/"
