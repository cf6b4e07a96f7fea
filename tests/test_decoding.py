"""The cheap proofs that a value is sound: they may not know, and are never wrong."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingestd.core.decoding import is_bounded, nests_little
from ingestd.core.rejections import DEPTH_MAX

TEXTS = st.text('[]{}"\\aë,:', max_size=6)


@st.composite
def nested(draw: st.DrawFn) -> Any:
    """Containers in each other, up to twice as deep as is allowed, with texts before and behind the next one."""
    levels = draw(st.lists(st.tuples(st.booleans(), TEXTS, TEXTS), max_size=2 * DEPTH_MAX))
    found: Any = draw(TEXTS)
    for is_array, before, behind in levels:
        found = [before, found, behind] if is_array else {f"0{before}": before, "1": found, f"2{behind}": behind}
    return {"properties": found}


def depth(value: Any) -> int:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if children is None else 1 + max(map(depth, children), default=0)


def hidden(levels: int, behind: str, before: str) -> Any:
    """Arrays in each other that look as if they stood side by side, if texts were no texts."""
    found: Any = []
    for _ in range(levels):
        found = [behind, found, before]
    return {"properties": found}


@given(nested())
@example(hidden(DEPTH_MAX, "a", "b"))
@example(hidden(DEPTH_MAX, "]", "["))
@example(hidden(DEPTH_MAX, '"]', '["'))
@example(hidden(DEPTH_MAX, '"', '"'))
@example(hidden(DEPTH_MAX, '"]"', '"["'))
def test_brackets_prove_no_deep_value_to_be_flat(value: Any) -> None:
    text = json.dumps(value, separators=(",", ":")).encode()
    if nests_little(text):
        assert depth(value) < DEPTH_MAX // 2


@pytest.mark.parametrize("space", ["", " "])
def test_brackets_prove_that_a_long_event_is_flat(space: str) -> None:
    item = {"name": "Zoë, a:b", "empty": "", "tags": ["a", "", {}], "of": {"x": {"y": [[1.5]]}}}
    value = json.dumps({"properties": {"items": [item] * 200}}, separators=(f",{space}", f":{space}")).encode()
    assert nests_little(value)
    assert is_bounded(value, {})


def test_brackets_in_texts_and_escapes_leave_it_to_a_walk() -> None:
    for text in ("[", "}", "[]", "a{b}c", '"', "\\"):  # the last one stands before the quote that ends it
        value = {"properties": {"items": [[text]] * 2000}}
        assert not nests_little(json.dumps(value).encode())
        assert is_bounded(json.dumps(value).encode(), value["properties"])
