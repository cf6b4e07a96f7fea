"""The words for a chain's source in what an operator reads: what things are called there, and what to do. Pure."""

from typing import NamedTuple

_NEW_LINEAGE = "set a new sink.lineage to begin a new chain"


class ChainWords(NamedTuple):
    """Nouns, and clauses whose fields in braces are filled in by ``core.chain``."""

    position: str  # of a partition where a writer begins
    system: str  # what the source's id is the id of
    stream: str  # what has a name that can be used again
    log: str  # what has lost records
    lost: str  # what retention has removed; fields: count, start, end, partition
    skip_lost: str  # the key that allows to go on behind lost records
    realign: str  # how to go on where the chain ends; field: end
    forget: str  # how to go on at the end of the chain
    new_chain: str


KAFKA = ChainWords(
    position="the committed offset",
    system="cluster",
    stream="topic",
    log="Kafka",
    lost="retention has removed {count} offsets of {partition} before they were read ({start}-{end})",
    skip_lost="kafka.skip_lost",
    realign="reset the group's offset for this partition to {end}",
    forget="delete the group's offset for this partition to go on at the end of the chain",
    new_chain=f"{_NEW_LINEAGE}, and reset the group's offsets to where it is to begin, or use a new kafka.group_id",
)
# A shard's position is where its chain ends, which is looked up at each start, or where it was found to begin.
KINESIS = ChainWords(
    position="the sequence number",
    system="stream",
    stream="stream",
    log="Kinesis",
    lost="retention has removed records of shard {partition} before they were read (sequence numbers {start}-{end})",
    skip_lost="kinesis.skip_lost",
    realign="restart the daemon, which goes on at {end}",
    forget="restart the daemon to go on at the end of the chain",
    new_chain=_NEW_LINEAGE,
)
