"""Output to a reader that stops: nobody waits for it, and what it missed is counted."""

import io
import logging
import os
import sys
import threading
from collections.abc import Iterator
from typing import TextIO, cast

import pytest

from ingestd.ops import background_output as module
from ingestd.ops.background_output import BackgroundOutput, BackgroundStream, background_output

WAIT_S = 10.0


class StoppedReader(io.StringIO):
    """A stream whose writer waits until the reader reads on."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = threading.Event()
        self.writer_waits = threading.Event()

    def write(self, text: str) -> int:
        self.writer_waits.set()
        assert self.reads.wait(WAIT_S)
        return super().write(text)


@pytest.fixture
def reader() -> Iterator[StoppedReader]:
    it = StoppedReader()
    yield it
    it.reads.set()


def test_text_is_written_in_order_once_the_reader_reads(reader: StoppedReader) -> None:
    output = BackgroundOutput()
    stream = BackgroundStream(reader, output)
    for number in range(3):
        stream.write(f"{number}\n")
    assert not output.drain(0.0)
    reader.reads.set()
    assert output.drain(WAIT_S)
    assert reader.getvalue() == "0\n1\n2\n"


def test_what_finds_no_room_is_dropped_and_counted(
    reader: StoppedReader, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "MAX_QUEUED_CHARS", 10)
    output = BackgroundOutput()
    stream = BackgroundStream(reader, output)
    stream.write("first\n")
    assert reader.writer_waits.wait(WAIT_S)
    for number in range(5):
        stream.write(f"line{number}\n" if number else "next\n")
    reader.reads.set()
    assert output.drain(WAIT_S)
    assert reader.getvalue() == "first\nnext\n"
    assert [record.getMessage() for record in caplog.records] == ["output was blocked: 4 lines dropped"]


def test_only_the_latest_frame_is_shown(reader: StoppedReader) -> None:
    output = BackgroundOutput()
    output.submit(lambda: reader.write("line "))
    assert reader.writer_waits.wait(WAIT_S)
    for number in range(3):
        output.show(lambda number=number: reader.write(f"frame {number}"))  # type: ignore[misc]
    reader.reads.set()
    assert output.drain(WAIT_S)
    assert reader.getvalue() == "line frame 2"


def test_a_reader_that_has_gone_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    output = BackgroundOutput()
    BackgroundStream(Gone(), output).write("lost\n")
    BackgroundStream(kept := io.StringIO(), output).write("kept\n")
    assert output.drain(WAIT_S)
    assert kept.getvalue() == "kept\n"
    assert caplog.records == []


def test_a_full_pipe_holds_up_neither_the_writer_nor_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EXIT_WAIT_S", 0.05)
    reading, writing = os.pipe()
    with os.fdopen(writing, "w", closefd=False) as pipe:
        monkeypatch.setattr(sys, "stderr", pipe)
        with background_output():
            stream = cast(BackgroundStream, sys.stderr)
            logging.getLogger().addHandler(handler := logging.StreamHandler(cast(TextIO, stream)))
            for _ in range(10):
                logging.getLogger().warning("x" * 50_000)
            logging.getLogger().removeHandler(handler)
        assert sys.stderr is pipe
        received = 0
        while received < 500_000:  # the thread goes on when somebody reads
            received += len(os.read(reading, 1 << 16))
        assert stream.output.drain(WAIT_S)
    os.close(writing)
    os.close(reading)


def test_a_stream_in_memory_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = io.StringIO()
    monkeypatch.setattr(sys, "stdout", memory)
    with background_output():
        assert sys.stdout is memory
