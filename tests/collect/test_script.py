"""The script for web pages, as a file: it stays small, and it names what its document explains."""

import gzip
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "ingestd" / "collect" / "ingestd.js"
DOCUMENT = ROOT / "docs" / "collect" / "website.md"


def test_has_less_than_3_kilobytes_on_the_wire() -> None:
    assert len(gzip.compress(SCRIPT.read_bytes())) < 3072


def test_every_attribute_and_every_method_is_documented() -> None:
    text = SCRIPT.read_text()
    attributes = re.search(r"const \{ (.+) \} = document\.currentScript\.dataset", text)
    api = re.search(r"const api = \{\n(.+?)\n  \};", text, re.DOTALL)
    assert attributes
    assert api
    document = DOCUMENT.read_text()
    for attribute in re.findall(r"(?:^|, )(\w+)", attributes[1]):
        assert f"`data-{attribute}`" in document
    for method in re.findall(r"^    (\w+)", api[1], re.MULTILINE):
        assert f"ingestd.{method}(" in document or method == "push"
    assert '["track",' in document


def test_everything_stored_in_browsers_is_documented() -> None:
    names = set(re.findall(r'"(ingestd\.\w+)', SCRIPT.read_text()))
    assert names == {"ingestd.client", "ingestd.consent", "ingestd.event", "ingestd.session"}
    document = DOCUMENT.read_text()
    for name in names:
        assert f"`{name}" in document
