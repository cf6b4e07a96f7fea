"""What is rejected can be read back as it was."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd import __version__
from ingestd.config.model import EventsConfig
from ingestd.core import quarantine
from ingestd.core.events import load_model
from ingestd.core.quarantine import Quarantined, QuarantineError
from ingestd.core.records import PlainRecord, TopicPartition
from ingestd.core.rejections import Reason
from ingestd.core.validation import EventValidator, Rejected

PARTITION = TopicPartition("marketing_events", 3)

records = st.builds(
    PlainRecord,
    offset=st.integers(0, 2**63 - 1),
    timestamp=st.integers(-(2**63), 2**63 - 1),
    value=st.none() | st.binary(max_size=40),
    key=st.none() | st.binary(max_size=40),
    headers=st.lists(st.tuples(st.text(max_size=9), st.none() | st.binary(max_size=9)), max_size=3).map(tuple),
)
rejects = st.builds(
    Rejected,
    position=st.integers(0, 10),
    record=records,
    reason=st.sampled_from(Reason),
    path=st.text(max_size=9),
    message=st.text(max_size=40),
)


@given(st.lists(rejects, max_size=4))
def test_lines_read_back_as_they_were(rejected: list[Rejected]) -> None:
    lines = quarantine.encode(PARTITION, rejected)
    assert lines.endswith(b"\n") or not rejected
    assert [quarantine.decode(line) for line in lines.split(b"\n")[:-1]] == [
        Quarantined(
            topic="marketing_events",
            partition=3,
            offset=one.record.offset,
            timestamp=one.record.timestamp,
            key=one.record.key,
            value=one.record.value,
            headers=list(one.record.headers),
            reason=one.reason,
            path=one.path,
            message=one.message,
            ingestd_version=__version__,
        )
        for one in rejected
    ]


def test_keeps_the_raw_bytes_of_what_the_validator_rejects() -> None:
    record = PlainRecord(7, 1_795_000_000_000, b'{"event_id": \xff', b"k\x00", (("trace", b"\xfe"),))
    line = quarantine.encode(
        PARTITION, EventValidator(EventsConfig(), load_model(None)).chunk(PARTITION, [record]).rejected
    )
    assert line == (
        b'{"topic":"marketing_events","partition":3,"offset":7,"timestamp":1795000000000,"key":"awA=",'
        b'"value":"eyJldmVudF9pZCI6IP8=","headers":[["trace","/g=="]],"reason":"not_json","path":"$",'
        b'"message":"JSON is malformed: invalid character (byte 13)","ingestd_version":"%s"}\n' % __version__.encode()
    )


def test_a_null_value_stays_apart_from_an_empty_one() -> None:
    rejected = [Rejected(0, PlainRecord(0, 0, value), Reason.INVALID, "$", "") for value in (None, b"")]
    null, empty = quarantine.encode(PARTITION, rejected).splitlines()
    assert (quarantine.decode(null).value, quarantine.decode(empty).value) == (None, b"")


@pytest.mark.parametrize("leader_epoch", [None, 0, 7])
def test_the_leader_epoch_is_there_where_it_is_known(leader_epoch: int | None) -> None:
    (line,) = quarantine.encode(
        PARTITION, [Rejected(0, PlainRecord(0, 0, b""), Reason.INVALID, "$", "")], leader_epoch
    ).splitlines()
    assert (b"leader_epoch" in line) == (leader_epoch is not None)
    assert quarantine.decode(line).leader_epoch == leader_epoch


@pytest.mark.parametrize("line", [b"", b"{}", b"[]", b"\xff", b'{"topic":1}', b'{"topic":"\xff"}'])
def test_says_so_when_a_line_is_not_its_own(line: bytes) -> None:
    with pytest.raises(QuarantineError, match="not a line of a quarantine object"):
        quarantine.decode(line)
