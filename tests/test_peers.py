"""How the benchmark of other systems counts: rows lost and doubled, and what became of hard records."""

import gzip

import pytest

from benchmarks.peers import hard
from benchmarks.peers.counting import Count, Loader, count, ids, lines
from benchmarks.peers.systems import SYSTEMS


def file(*names: str) -> bytes:
    return gzip.compress(b"".join(hard.event(name) + b"\n" for name in names))


def kind(key: str) -> hard.Kind:
    return next(it for it in hard.KINDS if it.key == key)


def written(key: str) -> list[bytes]:
    return [value or b"" for value in kind(key).values]


def test_each_system_has_a_key_of_its_own() -> None:
    assert len({system.key for system in SYSTEMS}) == len(SYSTEMS)


def test_counts_what_is_missing_and_what_is_there_twice() -> None:
    assert count([b"a", b"b", b"c"], [b"a", b"a", b"a", b"c", b"stranger", b"stranger"]) == Count(lost=1, doubled=2)


def test_reads_files_with_and_without_compression_and_last_line_end() -> None:
    assert lines(gzip.compress(b"1\n2\n")) == lines(b"1\n2") == [b"1", b"2"]
    assert lines(b"1\n\n2\n") == [b"1", b"", b"2"]


def test_finds_events_that_a_system_has_wrapped() -> None:
    assert ids(b'{"_key":"x","_value":{"event_id": "one","a":1}}\n{"a":1}\n' + hard.event("two")) == [b"one", b"two"]


def test_a_file_replaced_by_a_longer_one_loses_rows_by_name_and_doubles_them_by_version() -> None:
    loader = Loader()
    loader.look({"0": file("a")})
    loader.look({"0": file("a", "b"), "1": file("c")})
    expected = [b"a", b"b", b"c"]
    assert count(expected, loader.by_name) == Count(lost=1, doubled=0)
    assert count(expected, loader.by_version) == Count(lost=0, doubled=1)
    assert loader.rewritten == 1


def test_a_file_that_stays_as_it_was_is_loaded_once() -> None:
    loader = Loader()
    loader.look({"0": file("a")})
    loader.look({"0": file("a")})
    assert (loader.by_name, loader.by_version, loader.rewritten) == ([b"a"], [b"a"], 0)


@pytest.mark.parametrize("each", [it for it in hard.KINDS if not it.good], ids=lambda it: it.key)
def test_tells_what_became_of_a_bad_record(each: hard.Kind) -> None:
    good = [hard.event("other")]
    assert hard.outcome(each, [*good, *written(each.key)], []) == "written as a row"
    assert hard.outcome(each, good, []) == "dropped"


def test_tells_one_that_was_set_aside_in_base64_or_as_it_was() -> None:
    assert hard.outcome(kind("text"), [], [b'{"value":"YmFkLXRleHQsIGFuZCBubyBKU09O"}']) == "quarantined"
    assert hard.outcome(kind("text"), [], written("text")) == "quarantined"
    assert hard.outcome(kind("nothing"), [], [b'{"value":""}', b'{"value":null}']) == "quarantined"


def test_half_of_a_kind_is_not_taken_for_all_of_it() -> None:
    assert hard.outcome(kind("nothing"), [b""], []) == "1 of 2 written"
    assert hard.outcome(kind("nothing"), [], [b'{"value":""}']) == "dropped"


def test_an_event_over_several_lines_has_to_become_one() -> None:
    (value,) = written("lines")
    assert hard.outcome(kind("lines"), value.split(b"\n"), []) == "broken"
    assert hard.outcome(kind("lines"), [hard.event("hard-lines")], []) == "one row"
    assert hard.outcome(kind("lines"), [], []) == "dropped"


def test_counts_numbers_that_kept_all_their_digits_however_they_are_written() -> None:
    rows = written("numbers")
    assert hard.outcome(kind("numbers"), rows, []) == "5 of 5"
    rounded = [row.replace(b"9007199254740993", b"9007199254740992") for row in rows]
    assert hard.outcome(kind("numbers"), rounded, []) == "4 of 5"
    as_text = [row.replace(b"9007199254740993", b'"9007199254740993.0"') for row in rows]
    assert hard.outcome(kind("numbers"), as_text, []) == "5 of 5"
    assert hard.outcome(kind("numbers"), [], []) == "0 of 5"


def test_good_events_stand_before_and_behind_the_hard_ones() -> None:
    each = kind("text")
    assert set(ids(b"\n".join(value or b"" for value in hard.records(each)))) == hard.ordinary(each)
