"""docs/collect/webhooks.md says what the code does: types, fields, reasons, ages, and its mappings load."""

import re
from pathlib import Path

import pytest

from ingestd.collect.hooks import endpoint, outbound, signatures, sns
from ingestd.collect.hooks.email import TYPES
from ingestd.collect.hooks.mapping_file import COLUMNS, PARTS, load_mapping
from ingestd.collect.hooks.signatures import HOUR_MS, MAILGUN_WINDOW_MS, MINUTE_MS, SENDGRID_WINDOW_MS, WINDOW_MS
from ingestd.collect.hooks.sns_message import SNS_WINDOW_MS
from tests.collect.hooks_world import mapping_file

PAGE = Path(__file__).parent.parent.parent / "docs" / "collect" / "webhooks.md"


def rows_below(heading: str) -> list[list[str]]:
    """The cells of the first table that follows a line that begins with `heading`, without its head."""
    text = PAGE.read_text().partition(f"\n{heading}")[2]
    lines = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert lines is not None
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[0].strip().split("\n")[2:]]


def codes(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_the_table_of_event_types_is_that_of_the_code() -> None:
    vendors = ["sendgrid", "mailgun", "ses", "postmark", "mandrill"]
    listed: dict[str, dict[str, str]] = {vendor: {} for vendor in vendors}
    for event_type, *cells in rows_below("## Event types"):
        for vendor, cell in zip(vendors, cells, strict=True):
            listed[vendor].update(dict.fromkeys(codes(cell), codes(event_type)[0]))
    assert listed == TYPES


def test_the_table_of_fields_is_that_of_the_code() -> None:
    listed = [name for row in rows_below("A path is made of") for name in codes(row[0])]
    assert sorted(listed) == sorted((*COLUMNS, *PARTS))


def test_the_table_of_reasons_is_that_of_the_code() -> None:
    reasons = {
        signatures.MISSING, signatures.WRONG, signatures.EXPIRED, signatures.FUTURE, signatures.REPLAYED,
        signatures.WRONG_KEY, sns.TOPIC_NOT_ALLOWED, sns.UNREACHABLE, outbound.WRONG_ORGANIZATION, outbound.NOT_XML,
        endpoint.TOO_MANY,
    }  # fmt: skip
    assert {codes(row[0])[0] for row in rows_below("## Refusals")} == reasons


def test_the_ages_of_signatures_are_those_of_the_code() -> None:
    ages = {row[0]: row[2] for row in rows_below("## What all have in common") if row[2]}
    hours = {"SendGrid": SENDGRID_WINDOW_MS, "Mailgun": MAILGUN_WINDOW_MS, "Amazon SES": SNS_WINDOW_MS}
    assert ages == {name: f"{age / HOUR_MS:g} h" for name, age in hours.items()} | dict.fromkeys(
        ("HubSpot", "Any other"), f"{WINDOW_MS // MINUTE_MS} min"
    )


@pytest.mark.parametrize(("heading", "kind"), [("- **Your own fields.**", "sendgrid"), ("## Any other", "webhook")])
def test_the_mappings_of_the_page_load(tmp_path: Path, heading: str, kind: str) -> None:
    text = PAGE.read_text().partition(f"\n{heading}")[2].partition("```toml\n")[2].partition("```")[0]
    assert load_mapping(mapping_file(tmp_path, text), kind).fields
