"""How numbers, sizes, times and tables read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.core.formatting import amount, clip, clock, duration, number, size, table


def test_a_count_agrees_with_its_noun() -> None:
    assert [number(count, "record") for count in (0, 1, 2000)] == ["0 records", "1 record", "2,000 records"]
    assert number(2, "batch", "batches") == "2 batches"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (size(512), "512 B"),
        (size(1536), "1.5 KiB"),
        (size(5 << 40), "5.0 TiB"),
        (clock(7), "0:07"),
        (clock(3723), "1:02:03"),
        (duration(45), "45 s"),
        (duration(180), "3 min"),
        (duration(30 * 3600), "30 h"),
        (duration(4 * 86_400), "4 d"),
        (amount(5e6), "5,000,000"),
        (amount(0.25), "0.25"),
        (clip("abc", 3), "abc"),
        (clip("abcd", 3), "ab…"),
    ],
)
def test_a_unit_fits_its_value(written: str, expected: str) -> None:
    assert written == expected


def test_names_are_aligned_left_and_numbers_right() -> None:
    assert table([["partition", "rows"], ["a[0]", "12,345"]]) == ["partition    rows", "a[0]       12,345"]


def test_a_header_is_ruled_off() -> None:
    assert table([["n", "text"], ["1", "a"], ["20", "bc"]], left={1}, ruled=True) == [
        " n  text",
        "--  ----",
        " 1  a",
        "20  bc",
    ]
    assert table([["a"]], ruled=True) == ["a", "-"]
    assert table([]) == []


@given(st.lists(st.tuples(st.text(), st.text()), min_size=1))
def test_a_table_has_one_line_a_row_and_no_control_characters(rows: list[tuple[str, str]]) -> None:
    lines = table(rows)
    assert len(lines) == len(rows)
    assert all(line.isprintable() for line in lines)
