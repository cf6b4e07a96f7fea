"""The shards of a stream: their numbers, which can be read now, and who of several daemons reads which. Pure.

A shard that was split or merged has children, which are read once it was read to its end: so the records of one
partition key land in the order in which they were put.
"""

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence

from ingestd.core.errors import SourceError
from ingestd.sources.kinesis.port import Shard

_ID = re.compile(r"shardId-([0-9]{12})")


def shard_number(shard_id: str) -> int:
    """The number of a shard, which is that of its partition. ``SourceError`` where its id has another form."""
    if (match := _ID.fullmatch(shard_id)) is None:
        raise SourceError(
            f"the stream has a shard {shard_id!r}, and only ids such as shardId-000000000012 are known",
            hint="what answers is not Kinesis as AWS has it: correct kinesis.endpoint_url, or report this id",
        )
    return int(match[1])


def shard_id(number: int) -> str:
    """The id of the shard that a partition stands for."""
    return f"shardId-{number:012}"


def by_number(shards: Collection[Shard]) -> dict[int, Shard]:
    """The shards by their numbers, in ascending order."""
    return dict(sorted((shard_number(shard.id), shard) for shard in shards))


def readable(shards: Mapping[int, Shard], done: Collection[int]) -> list[int]:
    """The shards that can be read now: not read to their end yet, and each parent that is listed was."""
    ids = {shard.id: number for number, shard in shards.items()}
    return [
        number
        for number, shard in shards.items()
        if number not in done and all(ids[parent] in done for parent in shard.parents if parent in ids)
    ]


class Sharing:
    """Deals shards out among members, each on its own and all with the same result.

    A shard goes to the member with the highest hash of both that still has room: so a member that comes or goes moves
    few shards, and no member has more than its part.
    """

    def __init__(self) -> None:
        self._scores: dict[tuple[str, int], bytes] = {}

    def of(self, member: str, members: Collection[str], shards: Sequence[int]) -> set[int]:
        """The shards of one member, which is one of `members`."""
        everyone = {*members, member}
        listed = set(shards)
        self._scores = {pair: it for pair, it in self._scores.items() if pair[0] in everyone and pair[1] in listed}
        room = dict.fromkeys(everyone, -(-len(shards) // len(everyone)))
        found = set()
        for shard in sorted(shards):
            chosen = max((each for each in everyone if room[each]), key=lambda each: self._score(each, shard))
            room[chosen] -= 1
            if chosen == member:
                found.add(shard)
        return found

    def _score(self, member: str, shard: int) -> bytes:
        pair = (member, shard)
        if (score := self._scores.get(pair)) is None:
            score = self._scores[pair] = hashlib.blake2b(f"{shard}/{member}".encode(), digest_size=8).digest()
        return score
