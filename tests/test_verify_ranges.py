"""Ranges merge to the same set in any order, and adding one returns the offsets that were there before."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ingestd.verify.ranges import Range, Ranges

some = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 12)).map(lambda it: Range(it[0], it[0] + it[1])))


def offsets(of: Range) -> set[int]:
    return set(range(of.start, of.end))


@given(some)
def test_has_all_added_offsets_and_returns_repeated_ones(added: list[Range]) -> None:
    ranges, expected = Ranges(), set[int]()
    for each in added:
        shared = ranges.add(*each)
        assert set().union(*map(offsets, shared)) == expected & offsets(each)
        assert sum(map(len, map(offsets, shared))) == len(expected & offsets(each))
        expected |= offsets(each)
    assert set().union(*map(offsets, ranges)) == expected
    assert sum(map(len, map(offsets, ranges))) == len(expected)


@given(some)
def test_ranges_are_in_order_and_do_not_touch(added: list[Range]) -> None:
    ranges = Ranges()
    for each in added:
        ranges.add(*each)
    found = list(ranges)
    assert all(before.end < after.start for before, after in pairwise(found))
    assert ranges.gaps() == [Range(a.end, b.start) for a, b in pairwise(found)]
    assert ranges.extent == (Range(found[0].start, found[-1].end) if found else None)
    assert len(ranges) == len(found)


@given(st.permutations(range(30)))
def test_a_chain_is_one_range_in_any_order(order: list[int]) -> None:
    ranges = Ranges()
    for number in order:
        assert not ranges.add(10 * number, 10 * number + 10)
    assert list(ranges) == [Range(0, 300)]
    assert not ranges.gaps()
