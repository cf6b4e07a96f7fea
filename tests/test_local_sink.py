"""What a directory does besides the contract: it survives crashes, and says what is wrong with it."""

import errno
import gzip
import hashlib
import io
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ingestd.core.errors import SinkError, SinkForbidden, SinkUnavailable
from ingestd.core.gzip import compress
from ingestd.core.gzip_extra import extract
from ingestd.core.stored import Stored
from ingestd.sinks.local import LocalSink

ROWS = b'{"event_id":"1"}\n'
BODY = compress(ROWS).data
KEY = "events/year=2026/t+00000+00000000000000000000.jsonl.gz"
METADATA = {"end": "17"}


@pytest.fixture
async def sink(tmp_path: Path) -> LocalSink:
    sink = LocalSink(tmp_path / "data")
    await sink.start()
    return sink


class Crash(BaseException):
    """The process is dead: nothing catches this, and no system call works any more."""


def crash_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this many of the system calls happen that change something or make it durable; half a write is one, too."""
    done = 0

    def step() -> None:
        nonlocal done
        if done == steps:
            raise Crash
        done += 1

    def patched(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            step()
            return real(*args, **kwargs)

        return call

    class TornFile(io.FileIO):
        def write(self, data: Any) -> int:
            step()
            half = super().write(bytes(data)[: len(data) // 2])
            step()
            return half + super().write(bytes(data)[half:])

    def opened(path: Path, mode: str = "r", *args: Any, **kwargs: Any) -> TornFile:
        step()
        return TornFile(path, mode)

    for name in ("fsync", "link", "mkdir", "open", "unlink"):
        monkeypatch.setattr(os, name, patched(getattr(os, name)))
    monkeypatch.setattr(io, "open", opened)


async def test_a_crash_at_any_step_leaves_all_or_nothing(tmp_path: Path) -> None:
    outcomes = []
    for steps in range(100):
        root = tmp_path / str(steps)
        sink = LocalSink(root)
        await sink.start()
        with pytest.MonkeyPatch.context() as patch:
            crash_after(steps, patch)
            try:
                await sink.put_new(KEY, BODY, METADATA)
                crashed = False
            except Crash:
                crashed = True
        survivor = LocalSink(root)
        await survivor.start()
        info = await survivor.head(KEY)
        assert info is None or info.metadata == METADATA
        listed = [key async for key in survivor.list("")]
        assert listed == ([] if info is None else [KEY])
        again = await survivor.put_new(KEY, BODY, METADATA)
        assert again is (Stored.CREATED if info is None else Stored.EXISTS)
        assert gzip.decompress(await survivor.get(KEY)) == ROWS
        outcomes.append((crashed, again))
        if not crashed:
            break
    assert set(outcomes) == {(True, Stored.CREATED), (True, Stored.EXISTS), (False, Stored.EXISTS)}


WRITER = """
import asyncio, hashlib, random, sys, gzip
from pathlib import Path
from ingestd.sinks.local import LocalSink

async def main(root, writer, begin):
    sink = LocalSink(Path(root))
    await sink.start()
    source = random.Random(writer)
    for number in range(int(begin), 1_000_000):
        rows = source.randbytes(source.randrange(4_000_000))
        metadata = {"writer": writer, "sha256": hashlib.sha256(rows).hexdigest()}
        await sink.put_new(f"events/{number // 10}/{number:08d}.gz", gzip.compress(rows, 0), metadata)

asyncio.run(main(*sys.argv[1:]))
"""


def test_killed_writers_leave_whole_files_only(tmp_path: Path) -> None:
    chance = random.Random(7)

    def landed() -> int:
        return len(list(tmp_path.glob("events/*/*.gz")))

    for _ in range(6):
        before = landed()
        writers = [
            subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), name, str(before)]) for name in ("a", "b")
        ]
        target = before + chance.randrange(1, 6)
        while landed() < target:
            assert all(writer.poll() is None for writer in writers)
        for writer in writers:
            writer.kill()
        assert [writer.wait() for writer in writers] == [-signal.SIGKILL] * 2
    for path in tmp_path.glob("events/*/*.gz"):
        content = path.read_bytes()
        assert hashlib.sha256(gzip.decompress(content)).hexdigest() == extract(content)["sha256"]


class Recorder:
    """The order of what was made durable and what was linked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps: list[tuple[str, object]] = []
        fsync, link = os.fsync, os.link

        def recorded_fsync(descriptor: int) -> None:
            fsync(descriptor)
            self.steps.append(("fsync", os.fstat(descriptor).st_ino))

        def recorded_link(*args: Any, **kwargs: Any) -> None:
            self.steps.append(("link", None))
            link(*args, **kwargs)

        monkeypatch.setattr(os, "fsync", recorded_fsync)
        monkeypatch.setattr(os, "link", recorded_link)


async def test_content_is_durable_before_its_name_and_every_folder_before_the_answer(
    sink: LocalSink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(monkeypatch)
    assert await sink.put_new(KEY, BODY, METADATA) is Stored.CREATED
    path = tmp_path / "data" / KEY
    folders = [("fsync", folder.stat().st_ino) for folder in (path.parent, path.parent.parent, tmp_path / "data")]
    assert recorder.steps == [("fsync", path.stat().st_ino), ("link", None), *folders]

    recorder.steps.clear()
    assert await sink.put_new(KEY, BODY, METADATA) is Stored.EXISTS
    assert recorder.steps[-4:] == [("link", None), *folders]

    recorder.steps.clear()
    assert await sink.head(KEY) is not None
    assert recorder.steps == folders


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENOSPC, SinkForbidden),
        (errno.EDQUOT, SinkForbidden),
        (errno.EROFS, SinkForbidden),
        (errno.EACCES, SinkForbidden),
        (errno.EIO, SinkUnavailable),
        (errno.ESTALE, SinkUnavailable),
    ],
)
async def test_a_failing_disk_is_one_of_two_errors_and_leaves_nothing(
    sink: LocalSink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, expected: type[SinkError]
) -> None:
    def failing(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing)
        with pytest.raises(expected, match="cannot write") as failure:
            await sink.put_new(KEY, BODY, METADATA)
    assert failure.value.code == errno.errorcode[number]
    assert bool(failure.value.hint) == (expected is SinkForbidden)
    assert [path for path in (tmp_path / "data").rglob("*") if path.is_file()] == []
    assert await sink.put_new(KEY, BODY, METADATA) is Stored.CREATED


async def test_a_volume_that_is_not_mounted_is_no_empty_store(sink: LocalSink, tmp_path: Path) -> None:
    await sink.put_new(KEY, BODY, METADATA)
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    (tmp_path / "data").mkdir()
    with pytest.raises(SinkForbidden, match="mount"):
        await sink.head(KEY)
    with pytest.raises(SinkForbidden, match="mount"):
        await sink.get(KEY)
    with pytest.raises(SinkForbidden, match="mount"):
        await sink.put_new(KEY, BODY, METADATA)
    with pytest.raises(SinkForbidden, match="mount"):
        await sink.folders("")
    with pytest.raises(SinkForbidden, match="mount"):
        await anext(sink.list(""))
    assert list((tmp_path / "data").iterdir()) == []


async def test_a_file_in_the_way_needs_a_person(sink: LocalSink, tmp_path: Path) -> None:
    (tmp_path / "data" / "events").write_text("in the way")
    with pytest.raises(SinkForbidden, match="move it away"):
        await sink.put_new(KEY, BODY, METADATA)


async def test_start_refuses_a_file_system_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(SinkForbidden, match=r"does not take hard links.*another file system"):
        await LocalSink(tmp_path).start()
    assert list((tmp_path / ".tmp").iterdir()) == []


async def test_start_creates_the_directory_and_removes_what_was_abandoned_long_ago(tmp_path: Path) -> None:
    root = tmp_path / "not" / "yet"
    await LocalSink(root).start()
    old, recent = root / ".tmp" / "1-old", root / ".tmp" / "1-recent"
    for path in (old, recent):
        path.write_bytes(BODY)
    hours_ago = time.time() - 2 * 3600
    os.utime(old, (hours_ago, hours_ago))
    await LocalSink(root).start()
    assert list((root / ".tmp").iterdir()) == [recent]


async def test_temporary_files_have_no_key(sink: LocalSink, tmp_path: Path) -> None:
    (tmp_path / "data" / ".tmp" / "1-abc").write_bytes(BODY)
    assert [key async for key in sink.list("")] == []
    assert await sink.folders("") == []
    with pytest.raises(ValueError, match="temporary files"):
        await sink.head(".tmp/1-abc")


async def test_lists_by_whole_keys_not_folder_by_folder(sink: LocalSink) -> None:
    keys = ["a/b/c", "a/b-c", "a/b.c", "a/b0", "a/b+c", "a/b=1/x"]
    for key in keys:
        await sink.put_new(key, BODY, {})
    assert [key async for key in sink.list("")] == sorted(keys)


async def test_a_file_of_somebody_else_has_no_metadata(sink: LocalSink, tmp_path: Path) -> None:
    (tmp_path / "data" / "README").write_text("hello")
    info = await sink.head("README")
    assert info is not None
    assert dict(info.metadata) == {}


async def test_refuses_a_body_that_is_not_gzip(sink: LocalSink) -> None:
    with pytest.raises(ValueError, match="not gzip"):
        await sink.put_new(KEY, b"plain", METADATA)


def test_its_url_names_the_same_place_by_every_path(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "data")
    assert LocalSink(tmp_path / "data").url == f"file://{tmp_path}/data"
    assert (
        LocalSink(tmp_path / "link").url == LocalSink(tmp_path / "x" / ".." / "data").url == f"file://{tmp_path}/data"
    )
