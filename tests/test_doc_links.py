"""Every link in the documents leads to a file that exists, and to a heading that exists in it."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("docs", "deploy", "benchmarks")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.md"))])


def outside_of_code(document: Path) -> str:
    return re.sub(r"^```.*?^```$", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)


def anchors(document: Path) -> set[str]:
    """The anchors that GitHub makes from headings."""
    headings = re.findall(r"^#+ (.*)$", outside_of_code(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def links(document: Path) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", outside_of_code(document))


def broken(document: Path) -> list[str]:
    found = []
    for link in links(document):
        path, _, anchor = link.partition("#")
        if "://" in link:
            continue
        target = document.parent / path if path else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            found.append(link)
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(document: Path) -> None:
    assert not broken(document)


def test_a_link_to_nothing_is_found(tmp_path: Path) -> None:
    page, other = tmp_path / "page.md", tmp_path / "other.md"
    other.write_text("# Title\n\n## A `code` heading\n")
    page.write_text(
        "[a](other.md#a-code-heading) [b](other.md#none) [c](none.md) [d](#none) [e](https://example.com)\n"
    )
    assert broken(page) == ["other.md#none", "none.md", "#none"]
