"""What a log line looks like, at which level, and what never gets into one."""

import io
import json
import logging
import math
from collections.abc import Callable
from typing import Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingestd.config import secrets
from ingestd.config.model import LogConfig
from ingestd.config.types import Seconds, Size
from ingestd.ops import logs
from tests.redaction import fresh_redaction

SECRET = "correct-\\horse"
Level = Literal["DEBUG", "INFO", "WARNING", "ERROR"]
Format = Literal["auto", "json", "text"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh_redaction(monkeypatch)


def lines(
    *tell: Callable[[], None],
    format: Format = "json",  # noqa: A002 - the configuration's word
    level: Level = "INFO",
    quiet: bool = False,
) -> list[str]:
    """What is written while `tell` is called."""
    stream = io.StringIO()
    logs.setup(LogConfig(level=level, format=format), quiet_console=quiet, stream=stream)
    for call in tell:
        call()
    return stream.getvalue().splitlines()


def say(
    message: str, *, level: int = logging.INFO, logger: str = "ingestd.test", **extra: object
) -> Callable[[], None]:
    return lambda: logging.getLogger(logger).log(level, "%s", message, extra=extra)


def test_a_json_line_has_time_level_logger_message_and_extras() -> None:
    (line,) = lines(
        say("landed", topic="t", partition=3, share=0.5, key=None, url=io, wait=Seconds(30), size=Size(1024))
    )
    fields = json.loads(line)
    assert fields.pop("ts").endswith("Z")
    assert fields.pop("url").startswith("<module 'io'")
    assert fields == {
        "level": "INFO",
        "logger": "ingestd.test",
        "message": "landed",
        "topic": "t",
        "partition": 3,
        "share": 0.5,
        "key": None,
        "wait": 30.0,
        "size": 1024,
    }


def test_the_time_is_utc_with_milliseconds() -> None:
    record = logging.makeLogRecord({"created": 1769817600.25, "msg": "x"})
    assert json.loads(logs.JsonFormatter().format(record))["ts"] == "2026-01-31T00:00:00.250Z"


def test_an_extra_does_not_pass_for_one_of_our_fields() -> None:
    (line,) = lines(say("true", level=logging.INFO, ts="forged", logger_name="x"))
    assert json.loads(line)["ts"] != "forged"


@example("", math.nan)
@given(st.text(), st.text() | st.binary() | st.floats() | st.integers() | st.none())
def test_any_message_is_one_line_of_strict_json(message: str, value: object) -> None:
    record = logging.makeLogRecord({"msg": "%s", "args": (message,), "value": value})
    line = logs.JsonFormatter().format(record)
    assert len(line.splitlines()) == 1
    assert json.loads(line, parse_constant=pytest.fail)["message"] == message


@given(st.text(), st.text())
def test_any_message_is_one_line_of_text(message: str, value: str) -> None:
    record = logging.makeLogRecord({"msg": "%s", "args": (message,), "value": value})
    assert len(logs.TextFormatter().format(record).splitlines()) <= 1


def test_text_escapes_what_moves_a_terminal_s_cursor() -> None:
    (line,) = lines(say("\x1b[2Jgone\r\nforged", topic="\x9b"), format="text")
    assert "\\x1b[2Jgone\\x0d\\x0aforged topic=\\x9b" in line


def test_an_exception_is_a_field_in_json_and_lines_in_text() -> None:
    def fail() -> None:
        try:
            raise ValueError("why")
        except ValueError:
            logging.getLogger("ingestd").exception("it failed")

    (line,) = lines(fail)
    fields = json.loads(line)
    assert fields["message"] == "it failed"
    assert fields["exception"].startswith("Traceback")
    assert fields["exception"].endswith("ValueError: why")
    text = lines(fail, format="text")
    assert "ERROR   it failed" in text[0]
    assert text[-1] == "ValueError: why"


def test_a_field_has_a_maximum() -> None:
    (line,) = lines(say("x" * 100_000, value="y" * 100_000))
    assert len(line) < 2 * logs.MAX_FIELD_CHARS + 500
    assert "(100000 characters)" in json.loads(line)["message"]


def test_auto_is_text_on_a_terminal_and_json_elsewhere() -> None:
    for stream, is_json in ((io.StringIO(), True), (Terminal(), False)):
        logs.setup(LogConfig(), stream=stream)
        logging.getLogger("ingestd").info("hello")
        assert stream.getvalue().startswith("{") is is_json


def test_a_second_setup_replaces_the_first() -> None:
    first = io.StringIO()
    logs.setup(LogConfig(), stream=first)
    assert len(lines(say("once"))) == 1
    assert not first.getvalue()


@pytest.mark.parametrize(
    "library", ["aiokafka.conn", "botocore.auth", "aiobotocore", "aiohttp.access", "asyncio", "new"]
)
def test_libraries_are_heard_from_warning_up(library: str) -> None:
    told = [say("quiet", logger=library), say("loud", logger=library, level=logging.WARNING)]
    assert [json.loads(line)["message"] for line in lines(*told, level="DEBUG")] == ["loud"]
    assert not lines(*told, level="ERROR")


def test_aiokafka_s_errors_are_warnings() -> None:
    told = say("OffsetCommit failed", logger="aiokafka.consumer.group_coordinator", level=logging.ERROR)
    assert [json.loads(line)["level"] for line in lines(told)] == ["WARNING"]
    assert not lines(told, level="ERROR")
    (line,) = lines(say("ours", level=logging.ERROR))
    assert json.loads(line)["level"] == "ERROR"


def test_a_library_that_repeats_itself_is_heard_once_a_minute() -> None:
    told = [say("no broker", logger="aiokafka.conn", level=logging.WARNING)] * 50
    assert len(lines(*told)) == 1
    assert len(lines(*told, level="DEBUG")) == 50
    assert len(lines(*[say("ours")] * 3)) == 3


def test_the_demotion_is_ours_alone(caplog: pytest.LogCaptureFixture) -> None:
    lines(say("OffsetCommit failed", logger="aiokafka", level=logging.ERROR))
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_a_quiet_console_hears_warnings_only() -> None:
    told = [say("life cycle"), say("trouble", level=logging.WARNING)]
    assert [json.loads(line)["message"] for line in lines(*told, quiet=True)] == ["trouble"]


@pytest.mark.parametrize("format_", ["json", "text"])
def test_a_hidden_secret_is_removed_from_messages_extras_and_exceptions(format_: Format) -> None:
    def fail() -> None:
        try:
            raise ValueError(SECRET)
        except ValueError:
            logging.getLogger("ingestd").exception("sent %r", SECRET, extra={"body": f"a{SECRET}b", "all": [SECRET]})

    secrets.REDACTION.hide(SECRET)
    text = "\n".join(lines(fail, format=format_))
    assert "horse" not in text
    assert text.count("<redacted>") == 4


def test_hidden_secrets_have_a_maximum_and_the_longest_is_removed_first() -> None:
    redaction = secrets.Redaction()
    for text in (None, "", "abc", "pass", "password"):
        redaction.hide(text)
    assert redaction.clean("abc password pass") == "abc <redacted> <redacted>"
    for number in range(secrets.MAX_HIDDEN):
        redaction.hide(f"rotated-{number}")
    assert redaction.clean("pass rotated-0.") == "pass <redacted>."


def test_an_outage_has_one_line_at_its_begin_and_one_at_its_end() -> None:
    outage = logs.Outage()
    assert [outage.begin(now) for now in (10.0, 11.0, 13.0)] == [True, False, False]
    ended = outage.end(22.25)
    assert ended == (12.25, 3)
    assert str(ended) == "after 12.2 s and 3 tries"
    assert outage.end(23.0) is None
    assert outage.begin(30.0)
    assert str(outage.end(30.5)) == "after 0.5 s and 1 try"


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 10))))
def test_begins_and_ends_alternate_and_count_every_try(steps: list[tuple[bool, float]]) -> None:
    outage, now, began, tries = logs.Outage(), 0.0, math.nan, 0
    for failed, wait in steps:
        now += wait
        if failed:
            assert outage.begin(now) is (tries == 0)
            began, tries = (now, 1) if tries == 0 else (began, tries + 1)
        else:
            assert outage.end(now) == ((now - began, tries) if tries else None)
            tries = 0
