"""Writes standard output and standard error from a thread, so that a reader that stops never blocks the event loop.

A terminal that is stopped with Ctrl-S and a full pipe block write(2) for as long as they like. Here only the thread
waits. What does not fit into its queue meanwhile is dropped, and counted in a log line once the output flows again.
"""

import contextlib
import io
import logging
import os
import select
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import TextIO, cast

log = logging.getLogger(__name__)

MAX_QUEUED_CHARS = 1 << 20
EXIT_WAIT_S = 2.0  # the longest that the end of the process waits for output


class BackgroundOutput:
    """A thread that runs output jobs in order: each writes to a terminal, a pipe or a file, and may block.

    The thread is a daemon thread: one that is blocked does not keep the process from ending.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._jobs: deque[tuple[Callable[[], object], int]] = deque()
        self._queued_chars = 0
        self._frame: Callable[[], object] | None = None
        self._dropped = 0
        self._idle = True
        threading.Thread(target=self._run, name="output", daemon=True).start()

    def submit(self, job: Callable[[], object], chars: int = 0) -> None:
        """Queue a job that writes `chars` characters; it is dropped where the queue has no room for them."""
        with self._changed:
            if chars and self._queued_chars + chars > MAX_QUEUED_CHARS:
                self._dropped += 1
                return
            self._jobs.append((job, chars))
            self._queued_chars += chars
            self._wake()

    def show(self, frame: Callable[[], object]) -> None:
        """Run `frame` when all jobs are done, unless another frame replaces it first."""
        with self._changed:
            self._frame = frame
            self._wake()

    def discard_frame(self) -> None:
        """Forget a frame that has not been shown."""
        with self._changed:
            self._frame = None

    def drain(self, timeout_s: float) -> bool:
        """Wait until everything is written, for at most `timeout_s`. False where something is still queued."""
        with self._changed:
            return self._changed.wait_for(lambda: self._idle, timeout_s)

    def _wake(self) -> None:
        self._idle = False
        self._changed.notify_all()

    def _run(self) -> None:
        while True:
            job = self._next()
            try:
                job()
            except (OSError, ValueError):  # the reader is gone, or the file is closed
                pass
            except Exception:
                log.exception("cannot write output")

    def _next(self) -> Callable[[], object]:
        with self._changed:
            while True:
                if self._jobs:
                    job, chars = self._jobs.popleft()
                    self._queued_chars -= chars
                    return job
                if self._dropped:
                    lines, self._dropped = self._dropped, 0
                    return lambda: log.warning("output was blocked: %d lines dropped", lines)
                if self._frame is not None:
                    frame, self._frame = self._frame, None
                    return frame
                self._idle = True
                self._changed.notify_all()
                self._changed.wait()


class BackgroundStream(io.TextIOBase):
    """A text stream that `output` writes: ``write`` returns at once. `target` is the stream that is written to."""

    def __init__(self, target: TextIO, output: BackgroundOutput) -> None:
        self.target = target
        self.output = output

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self.target.encoding

    def write(self, text: str) -> int:
        self.output.submit(lambda: self._write(text), len(text))
        return len(text)

    def _write(self, text: str) -> None:
        self.target.write(text)
        self.target.flush()

    def flush(self) -> None:
        """Returns at once: a logger must not wait for the reader."""

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self.target.isatty()

    def fileno(self) -> int:
        return self.target.fileno()


class _Descriptor(io.TextIOBase):
    """Writes to a file descriptor without a buffer: the interpreter waits for a buffer's lock when it ends."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._fd = stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding

    def write(self, text: str) -> int:
        rest = memoryview(text.encode(self.encoding, "backslashreplace"))
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:  # another process has made it non-blocking
                select.select([], [self._fd], [])
        return len(text)

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._fd


@contextlib.contextmanager
def background_output() -> Iterator[None]:
    """Make standard output and standard error write in the background; at the end wait a moment for what is queued."""
    output = BackgroundOutput()
    stdout, stderr = _in_background(sys.stdout, output), _in_background(sys.stderr, output)
    try:
        with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
            yield
    finally:
        output.drain(EXIT_WAIT_S)


def _in_background(stream: TextIO, output: BackgroundOutput) -> TextIO:
    """The stream itself where it has no descriptor: it is in memory, and cannot block."""
    try:
        stream.flush()
        descriptor = _Descriptor(stream)
    except (OSError, ValueError):
        return stream
    return cast(TextIO, BackgroundStream(cast(TextIO, descriptor), output))
