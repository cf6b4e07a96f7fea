"""Names of objects: no topic, no lineage and no key leads out of the place where objects belong."""

import asyncio
import string
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingestd.config.load import Flag, load
from ingestd.config.model import Config
from ingestd.config.validate import PREFIX_MAX, TOPIC_MAX
from ingestd.core.errors import ConfigError, SinkForbidden
from ingestd.core.gzip import compress
from ingestd.core.object_keys import EVENTS, QUARANTINE, DataObjectName, ObjectKeys, digest_of
from ingestd.core.records import TopicPartition
from ingestd.core.stored import Stored
from ingestd.sinks.local import LocalSink
from ingestd.sinks.names import check_key

BODY = compress(b'{"event_id":"1"}\n').data
DIGEST = digest_of(BODY)
KEY = "events/year=2026/month=01/day=01/t+00000+00000000000000000000.jsonl.gz"

# Every name that Kafka gives a topic, as long as the configuration takes it.
topics = st.one_of(
    st.text(string.ascii_letters + string.digits + "._-", min_size=1, max_size=TOPIC_MAX),
    st.sampled_from(["...", "..-", "-rf", "_", "t", "T", "events", "year=2026".replace("=", "."), "a" * TOPIC_MAX]),
).filter(lambda topic: topic not in {".", ".."})
lineages = st.none() | topics
partitions = st.integers(0, 2**31 - 1)
offsets = st.integers(0, 2**63 - 1)
timestamps = st.integers(-(2**63), 2**63 - 1)
places = st.tuples(topics, partitions, offsets)


def accepted(**keys: str) -> Config:
    """The configuration with these keys."""
    return load(environ={}, flags=[Flag("--set", key.replace("__", "."), text) for key, text in keys.items()]).config


@given(places, lineages, timestamps, offsets)
@example(("a" * TOPIC_MAX, 2**31 - 1, 2**63 - 1), "l" * 249, 2**63 - 1, 2**63 - 1)
def test_every_topic_s_objects_are_in_their_folder_and_have_a_name_that_every_store_takes(
    place: tuple[str, int, int], lineage: str | None, timestamp: int, end: int
) -> None:
    topic, partition, start = place
    accepted(kafka__topics=topic, **({"sink__lineage": lineage} if lineage else {}))
    tp = TopicPartition(topic, partition)
    for exactly_once in (True, False):
        layout = ObjectKeys(lineage, exactly_once=exactly_once)
        key = layout.data_key(tp, start, timestamp, end)
        other = layout.quarantine_key(tp, start, timestamp, DIGEST)
        for name, folder in ((key, EVENTS), (other, QUARANTINE)):
            assert name.startswith(folder)
            assert name.count("/") == 4 + (lineage is not None), "it opens no folder of its own"
            check_key("p/" * (PREFIX_MAX // 2) + name)
        assert layout.parse(key) == DataObjectName(tp, start, key)
        assert layout.parse(other) is None
        found = layout.parse_quarantine(other)
        assert found is not None
        assert (found.partition, found.start, found.digest) == (tp, start, DIGEST)


@given(places, places, timestamps)
def test_two_places_never_share_a_name_and_offsets_sort_as_they_count(
    one: tuple[str, int, int], other: tuple[str, int, int], timestamp: int
) -> None:
    layout = ObjectKeys()
    names = [layout.data_key(TopicPartition(*place[:2]), place[2], timestamp, 0) for place in (one, other)]
    rejects = [layout.quarantine_key(TopicPartition(*place[:2]), place[2], timestamp, DIGEST) for place in (one, other)]
    assert (names[0] == names[1]) == (one == other)
    assert (rejects[0] == rejects[1]) == (one == other)
    beside = layout.data_key(TopicPartition(*one[:2]), other[2], timestamp, 0)
    assert (names[0] < beside) == (one[2] < other[2])


@given(topics, topics, partitions, partitions, offsets)
def test_a_partition_s_prefix_lists_no_other_s_objects(
    topic: str, other: str, partition: int, number: int, start: int
) -> None:
    layout = ObjectKeys()
    name = layout.data_key(TopicPartition(other, number), start, 0, 0)
    day = name.rpartition("/")[0] + "/"
    listed = name.startswith(layout.day_prefix(day, TopicPartition(topic, partition)))
    assert listed == ((topic, partition) == (other, number))


@pytest.mark.parametrize(
    "name", ["../t", "a/b", ".tmp/t", "t+00000", "t\n", "t\0", "t\u202e", "\u0665", "", "t" * 250, " t", "é"]
)
def test_a_name_that_no_topic_has_is_not_taken_for_one_of_ours(name: str) -> None:
    layout = ObjectKeys()
    day = "year=2026/month=01/day=01/"
    assert layout.parse(f"{EVENTS}{day}t+00000+{0:020d}.jsonl.gz")
    assert layout.parse_quarantine(f"{QUARANTINE}{day}t+00000+{0:020d}+{DIGEST}.jsonl.gz")
    assert layout.parse(f"{EVENTS}{day}{name}+00000+{0:020d}.jsonl.gz") is None
    assert layout.parse_quarantine(f"{QUARANTINE}{day}{name}+00000+{0:020d}+{DIGEST}.jsonl.gz") is None


@pytest.mark.parametrize(
    "folder", ["", "../", "year=2026/month=01/", "spring/year=2026/month=01/day=01/", "year=2026/../"]
)
def test_what_is_not_in_a_folder_of_a_day_is_not_ours(folder: str) -> None:
    assert ObjectKeys().parse(f"{EVENTS}{folder}t+00000+{0:020d}.jsonl.gz") is None
    assert ObjectKeys().parse_quarantine(f"{QUARANTINE}{folder}t+00000+{0:020d}+{DIGEST}.jsonl.gz") is None


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"kafka__topics": "a" * (TOPIC_MAX + 1)}, f"^kafka.topics = .* has a name of more than {TOPIC_MAX} char"),
        (
            {"simulator__topic": "a" * (TOPIC_MAX + 1)},
            f"^simulator.topic = .* has a name of more than {TOPIC_MAX} char",
        ),
        (
            {"sink__url": "s3://bucket/" + "p" * (PREFIX_MAX + 1)},
            f"^sink.url = .* has a prefix of more than {PREFIX_MAX} ",
        ),
    ],
)
def test_what_would_make_names_too_long_is_refused_by_the_configuration(keys: dict[str, str], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        accepted(**keys)


# -- a directory as the store


async def started(root: Path) -> LocalSink:
    sink = LocalSink(root)
    await sink.start()
    return sink


def files_of(root: Path) -> set[Path]:
    return {path for path in root.rglob("*") if not path.is_dir()}


_pieces = st.sampled_from(
    ["..", ".", "", "/", "//", "a", "events", ".tmp", "~", "$HOME", "\0", "\n", "\\", "%2e%2e", "\u2025", "\uff0f", "é",
     "x" * 256, "con", "*", "\ud800"]
)  # fmt: skip
_keys = st.lists(_pieces, min_size=1, max_size=8).map("/".join) | st.lists(_pieces, max_size=8).map("".join)


@given(_keys | st.text(max_size=20))
def test_no_key_is_written_outside_of_the_directory(key: str) -> None:
    async def put(root: Path) -> None:
        sink = await started(root)
        try:
            stored = await sink.put_new(key, BODY, {})
        except (ValueError, SinkForbidden):
            assert files_of(root.parent) == set()
            return
        assert stored is Stored.CREATED
        assert files_of(root.parent) == {root / key}
        assert [found async for found in sink.list("")] == [key]

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(put(Path(folder) / "data"))


@pytest.mark.parametrize("link", ["events", "events/year=2026", "events/year=2026/month=01/day=01", KEY])
@pytest.mark.parametrize("target", ["outside", "data/elsewhere", "missing", "itself"])
async def test_a_symbolic_link_on_the_way_is_refused_and_not_followed(tmp_path: Path, link: str, target: str) -> None:
    sink = await started(tmp_path / "data")
    for folder in ("outside", "data/elsewhere"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "secret").write_bytes(BODY)
    place = tmp_path / "data" / link
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(place if target == "itself" else tmp_path / target)
    before = files_of(tmp_path)

    for call in (sink.put_new(KEY, BODY, {}), sink.head(KEY), sink.get(KEY)):
        with pytest.raises(SinkForbidden, match="remove the symbolic link"):
            await call

    assert files_of(tmp_path) == before
    assert not [key async for key in sink.list("") if key.startswith("events")]
    if link == "events":
        with pytest.raises(SinkForbidden, match="remove the symbolic link"):
            await sink.folders("events/")


async def test_a_symbolic_link_in_place_of_the_temporary_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / ".tmp").symlink_to(tmp_path / "outside")
    with pytest.raises(SinkForbidden, match="remove the symbolic link"):
        await started(tmp_path / "data")
    assert list((tmp_path / "outside").iterdir()) == []
