"""The live table, the summary and the progress bar, rendered to text at a fixed width."""

import gzip
import io
import logging
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from rich.console import Console

from ingestd.config.model import BatchConfig, Config, S3Config, SimulatorConfig, SinkConfig
from ingestd.config.types import Seconds
from ingestd.core.counters import Totals
from ingestd.ops.background_output import BackgroundOutput
from ingestd.ops.readiness import PartitionStatus, Status
from ingestd.ops.terminal import LiveView, ProgressBar, summary

OUTPUT = BackgroundOutput()
MIDNIGHT = int(datetime(2026, 1, 2, tzinfo=UTC).timestamp())
CONFIG = Config(source="simulator", duration=Seconds(300), batch=BatchConfig(interval=Seconds(30)))
TOTALS = Totals(
    consumed=12431,
    landed=11800,
    quarantined=12,
    in_flight=619,
    objects=24,
    object_bytes=1234567,
    accepted_by_type={"web_visit": 8120, "email_open": 2200, "email_click": 900, "advisor_call": 300},
    rejected_by_reason={"missing_field": 8, "not_json": 4},
)


def partition(number: int, **changes: Any) -> PartitionStatus:
    fields: dict[str, Any] = {
        "topic": "marketing_events",
        "partition": number,
        "state": "filling",
        "reached": (MIDNIGHT - 17_280) * 1000,
        "landed": 800,
        "log_end": 1000,
        "lag": 200,
        "batch_records": 121,
        "batch_bytes": 18000,
        "batch_age": 12.3,
        "sealed_batches": 1,
    }
    return PartitionStatus(**{**fields, **changes})


STATUS = Status(
    version="1",
    started_at=datetime(2026, 1, 2, tzinfo=UTC),
    uptime=83.2,
    source="simulator",
    sink="s3://bucket/prefix",
    phase="running",
    partitions=[partition(0), partition(1)],
    totals=TOTALS,
    assigned=True,
    reasons=[],
)


def drawn(*snapshots: Status, config: Config = CONFIG, width: int = 80) -> str:
    """The table after these snapshots, as plain text."""
    console = Console(file=io.StringIO(), width=width, color_system=None)
    view = LiveView(config, console, OUTPUT)
    for snapshot in snapshots:
        view.update(snapshot)
    with console.capture() as capture:
        console.print(view.render(snapshots[-1]))
    return capture.get()


def written(file: io.StringIO) -> str:
    """All that the output's thread has written into `file`, once it is done."""
    assert OUTPUT.drain(10)
    return file.getvalue()


def line(text: str, label: str) -> str:
    """What stands beside a label."""
    return next(line for line in text.splitlines() if line.startswith(label)).removeprefix(label).strip()


def test_shows_the_flow_at_80_columns_without_colour() -> None:
    text = drawn(STATUS)
    assert line(text, "ingestd") == "running 1:23 of 5:00, 3:36 left   simulator -> s3://bucket/prefix"
    assert line(text, "accepted") == "web_visit 8,120, email_open 2,200, email_click 900, advisor_call 300"
    assert line(text, "rejected") == "12: missing_field 8, not_json 4"
    assert line(text, "landed") == "11,800 records in 24 objects, 1.2 MiB compressed"
    assert line(text, "filling") == "partition             records       size  age of 30s         to upload"
    assert "marketing_events[1]       121   17.6 KiB  [####......]  12 s         1" in text
    assert line(text, "lag") == "400 records not landed yet"
    assert "\x1b" not in text


def test_the_rate_is_that_of_the_last_seconds() -> None:
    def at(uptime: float, consumed: int) -> Status:
        return replace(STATUS, uptime=uptime, totals=replace(TOTALS, consumed=consumed))

    assert line(drawn(at(1, 0)), "events") == "0"
    assert line(drawn(at(0, 0), at(1, 10)), "events") == "10   600 a minute"
    assert line(drawn(at(0, 0), at(1, 12_500)), "events") == "12,500   12,500 a second"
    burst_then_calm = [at(0, 0), at(1, 100_000), *(at(n, 100_000 + n) for n in range(2, 40))]
    assert line(drawn(*burst_then_calm), "events") == "100,039   60 a minute"


def test_memory_stays_constant_over_many_snapshots() -> None:
    console = Console(file=io.StringIO(), width=80)
    view = LiveView(CONFIG, console, OUTPUT)
    for tick in range(10_000):
        view.update(replace(STATUS, uptime=tick / 1000))
    assert len(view._samples) <= 64


def test_an_unavailable_sink_says_that_nothing_is_lost() -> None:
    down = replace(STATUS, sink_error="503 SlowDown", sink_error_age=12.0)
    assert "S3 unavailable for 12 s: buffering 619 records, nothing is lost" in drawn(down)
    assert "unavailable" not in drawn(replace(down, sink_error_age=0.2))


def test_a_denied_access_shows_the_cause() -> None:
    text = drawn(replace(STATUS, sink_error="NoSuchBucket: bucket", sink_forbidden=True))
    words = " ".join(text.split())
    assert (
        "S3 access denied, operator action required; buffering 619 records, nothing is lost: NoSuchBucket: bucket"
        in words
    )


def test_a_failing_source_and_a_halted_partition_are_named() -> None:
    assert "source unavailable for 5 s" in drawn(replace(STATUS, source_error="no broker", source_error_age=5.0))
    text = drawn(replace(STATUS, partitions=[partition(0, state="halted", halted="misaligned: reset to 7")]))
    assert "marketing_events[0] halted: misaligned: reset to 7" in text


def test_draining_counts_down() -> None:
    begun = replace(STATUS, phase="draining")
    half = replace(begun, totals=replace(TOTALS, in_flight=310), partitions=[partition(0, batch_records=0)])
    assert line(drawn(begun), "draining") == "[....................]  619 records to land in 4 batches"
    assert line(drawn(begun, half), "draining") == "[##########..........]  310 records to land in 1 batch"


def test_history_shows_how_far() -> None:
    config = Config(source="simulator", simulator=SimulatorConfig(history=Seconds(86400)))
    assert line(drawn(STATUS, config=config), "history") == "[################....]  80% of 1d"
    assert "history" not in drawn(STATUS)


def test_the_table_is_bounded() -> None:
    text = drawn(
        replace(
            STATUS,
            partitions=[partition(n) for n in range(500)],
            totals=replace(TOTALS, accepted_by_type={f"type{n}": 1000 - n for n in range(500)}),
        )
    )
    assert len(text.splitlines()) < 24
    assert "and 494 partitions more" in text
    assert "others" in text


def test_an_idle_and_an_unassigned_daemon_say_so() -> None:
    idle = partition(0, batch_records=0, batch_bytes=0, batch_age=None, sealed_batches=0)
    assert "0        0 B  idle " in drawn(replace(STATUS, partitions=[idle]))
    assert "  probing " in drawn(replace(STATUS, partitions=[replace(idle, state="probing")]))
    assert line(drawn(replace(STATUS, partitions=[])), "filling") == "no partition is assigned yet"


ALIEN = st.text(st.characters(), max_size=20)


@given(ALIEN, st.integers(40, 120))
def test_foreign_text_cannot_control_the_terminal(text: str, width: int) -> None:
    alien = replace(
        STATUS,
        partitions=[partition(0, halted=text)],
        totals=replace(TOTALS, accepted_by_type={text: 1}, rejected_by_reason={text: 1}),
        sink_error=text,
        sink_forbidden=True,
        last_error=text,
    )
    for shown in (drawn(alien, width=width), summary(alien, CONFIG, STATUS.sink)):
        assert all(char.isprintable() or char == "\n" for char in shown)


def screen(raw: str) -> list[str]:
    """What a terminal of endless height shows: the few commands that are used, and nothing else, are obeyed."""
    lines, row, column = [""], 0, 0
    for token in re.findall(r"\x1b\[\??[\d;]*[A-Za-z]|[\r\n]|[^\x1b\r\n]+", raw):
        if token == "\n":
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        elif token == "\r":
            column = 0
        elif token == "\x1b[2K":
            lines[row] = ""
        elif up := re.fullmatch(r"\x1b\[(\d+)A", token):
            row -= int(up[1])
        elif not token.startswith("\x1b"):
            lines[row] = lines[row][:column].ljust(column) + token + lines[row][column + len(token) :]
            column += len(token)
        else:
            assert re.fullmatch(r"\x1b\[(\?25[lh]|[\d;]*m)", token), token
    return [it.rstrip() for it in lines]


def terminal(file: io.StringIO) -> Console:
    return Console(file=file, width=80, height=24, force_terminal=True, color_system="standard", _environ={})


def test_log_lines_appear_above_the_table_and_the_table_stays_whole() -> None:
    file = io.StringIO()
    view = LiveView(CONFIG, terminal(file), OUTPUT)
    handler = logging.StreamHandler(view.stream)

    def log(text: str) -> None:
        handler.handle(logging.makeLogRecord({"msg": text}))

    log("before")
    view.start()
    long = "with [brackets] and %s" % ("x" * 200)
    for tick in range(3):
        view.update(replace(STATUS, uptime=83.0 + tick))
        written(file)
        log(f"{tick} {long}")
    table = drawn(*(replace(STATUS, uptime=83.0 + tick) for tick in range(3)))
    expected = ["before", *(f"{tick} {long}" for tick in range(3))]
    assert screen(written(file)) == [*expected, *(it.rstrip() for it in table.splitlines())]
    view.stop()
    log("after")
    assert screen(written(file))[: len(expected) + 1] == [*expected, "after"]
    assert not any(screen(written(file))[len(expected) + 1 :])
    assert written(file).count("\x1b[?25h") == 1  # the cursor is back


def test_no_terminal_no_table() -> None:
    for console in (
        Console(file=io.StringIO()),
        Console(file=io.StringIO(), force_terminal=True, _environ={"TERM": "dumb"}),
    ):
        view = LiveView(CONFIG, console, OUTPUT)
        view.start()
        view.update(STATUS)
        view.stream.write("a log line\n")
        view.stop()
        assert isinstance(console.file, io.StringIO)
        assert written(console.file) == "a log line\n"


def test_a_terminal_that_goes_away_does_not_stop_the_daemon() -> None:
    class Fragile(io.StringIO):
        gone = False

        def write(self, text: str) -> int:
            if self.gone:
                raise OSError(5, "Input/output error")
            return super().write(text)

    file = Fragile()
    view = LiveView(CONFIG, terminal(file), OUTPUT)
    view.start()
    view.update(STATUS)
    written(file)
    file.gone = True
    for _ in range(3):
        view.update(STATUS)
    view.stop()
    written(file)


STOPPED = replace(STATUS, phase="stopped", totals=replace(TOTALS, landed=12419, in_flight=0))


def test_the_summary_accounts_for_every_record() -> None:
    text = summary(STOPPED, CONFIG, STATUS.sink)
    assert "ingestd ran for 1:23." in text
    assert "  consumed    12,431 records = 12,419 landed + 12 quarantined\n" in text
    assert "  landed      24 objects, 1.2 MiB compressed, in s3://bucket/prefix\n" in text
    assert "  rejected    12: missing_field 8, not_json 4\n" in text


def test_skipped_tombstones_are_accounted_for_only_where_there_are_some() -> None:
    some = replace(STOPPED, totals=replace(STOPPED.totals, consumed=12_436, skipped=5))
    text = summary(some, CONFIG, STATUS.sink)
    assert "12,436 records = 12,419 landed + 12 quarantined + 5 skipped\n" in text
    assert "  skipped     5 tombstones, without a row (events.tombstones)\n" in text
    assert "skipped" not in summary(STOPPED, CONFIG, STATUS.sink)


def test_the_summary_says_what_was_not_delivered_and_why() -> None:
    odd = replace(
        STATUS,
        totals=replace(TOTALS, consumed=12_441, released=10, adopted=1),
        partitions=[partition(0, halted="misaligned: reset to 7")],
        last_error="503 SlowDown",
    )
    text = summary(odd, CONFIG, STATUS.sink)
    assert "12,441 records = 11,800 landed + 12 quarantined + 10 released + 619 in flight" in " ".join(text.split())
    assert "  in flight   619 records not delivered: to be read again at the next start\n" in text
    assert "  adopted     1 object that another daemon had written first\n" in text
    assert "  halted      marketing_events[0]: misaligned: reset to 7\n" in text
    assert "  last error  503 SlowDown\n" in text


def test_the_summary_fits_80_columns_but_for_commands() -> None:
    wordy = replace(STOPPED, last_error="word " * 60, partitions=[partition(0, halted="word " * 60)])
    text = summary(wordy, CONFIG, STATUS.sink)
    assert max(len(it) for it in text.splitlines() if not it.startswith("  aws ")) <= 80
    assert "advisor_call 300" in text  # a name and its number are not torn apart


def test_the_command_for_s3_lists_the_lineage_at_the_endpoint() -> None:
    config = replace(CONFIG, sink=SinkConfig(lineage="v2"), s3=S3Config(endpoint_url="http://127.0.0.1:8333"))
    text = summary(STOPPED, config, "s3://bucket/prefix/")
    base = "aws --endpoint-url http://127.0.0.1:8333 s3 ls --recursive --human-readable s3://bucket/prefix"
    assert f"\n  {base}/events/v2/\n" in text
    assert f"\n  {base}/quarantine/v2/\n" in text


@pytest.mark.parametrize("lineage", [None, "v2"])
def test_the_command_for_a_directory_works_when_pasted(
    lineage: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "it's my data"
    for folder, row in (("events", b'{"event_id":"1"}\n'), ("quarantine", b'{"reason":"not_json"}\n')):
        day = root / folder / (lineage or "") / "year=2026/month=01/day=02"
        day.mkdir(parents=True)
        (day / "marketing_events+00000+00000000000000000000.jsonl.gz").write_bytes(gzip.compress(row))
    config = replace(CONFIG, sink=SinkConfig(lineage=lineage))
    for here, start in ((tmp_path, "gzip -dc './it"), (root, "gzip -dc '/"), (Path("/"), "gzip -dc './")):
        monkeypatch.chdir(here)
        text = summary(STOPPED, config, root.as_uri())
        commands = [it.strip() for it in text.splitlines() if it.startswith("  gzip")]
        assert all(command.startswith(start) for command in commands)
        answers = [subprocess.run(command, shell=True, check=True, capture_output=True).stdout for command in commands]  # noqa: S602
        assert answers == [b'{"event_id":"1"}\n', b'{"reason":"not_json"}\n']


def test_the_summary_of_nothing_has_no_commands() -> None:
    text = summary(replace(STATUS, phase="stopped", totals=Totals()), CONFIG, STATUS.sink)
    assert "0 records = 0 landed + 0 quarantined" in text
    assert "Look at" not in text


# -- a command's progress


def test_progress_is_drawn_in_place_and_log_lines_stand_above_it() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None)
    bar = ProgressBar("days", console)
    bar.update(1.5, 365, "1,234 objects, [red]100 a second")
    bar.stream.write("a log line\n")
    bar.update(300, 365, "2,000 objects, 100 a second")
    bar.stop()
    shown = cast(io.StringIO, console.file).getvalue()
    assert "2 of 365 days 1,234 objects, [red]100 a second" in shown
    assert "300 of 365 days" in shown
    assert "a log line\n" in shown


def test_progress_that_was_never_drawn_can_be_stopped() -> None:
    console = Console(file=io.StringIO(), force_terminal=True)
    ProgressBar("days", console).stop()


def test_a_view_on_standard_error_draws_there_above_what_others_write(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", shown := Terminal())
    view = LiveView.on_stderr(CONFIG)
    view.start()
    view.update(STATUS)
    sys.stderr.write("printed\n")
    view.stop()
    assert sys.stderr is shown
    assert view._output.drain(10)
    assert "printed\n" in shown.getvalue()
    assert "\x1b[?25h" in shown.getvalue(), "the cursor is shown again"
