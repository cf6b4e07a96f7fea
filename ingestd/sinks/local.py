"""Stores objects in a directory: create-only by ``link(2)``, durable by ``fsync``, metadata in the gzip header.

A file is complete under a temporary name before it gets its own name by a hard link, which fails if that name is taken;
``rename`` would overwrite. Every call runs in a daemon thread: a hung file server must not keep the process alive.
"""

import errno
import os
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path

from ingestd.core import gzip_extra
from ingestd.core.errors import SinkForbidden, SinkUnavailable
from ingestd.core.stored import ObjectInfo, Stored
from ingestd.ops.detached_thread import run_detached
from ingestd.sinks.names import check_folder, check_key, check_metadata

_TEMPORARY = ".tmp"
_ABANDONED_AFTER_S = 3600.0  # writing one takes seconds
_MAX_CLEANED = 10_000  # temporary files that a start looks at

_NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK}
_HINTS = {
    errno.ENOSPC: "the disk is full: make room",
    errno.EDQUOT: "the disk quota is used up: raise it or make room",
    errno.EACCES: "give this user the right to read and write there",
    errno.EPERM: "give this user the right to read and write there",
    errno.EROFS: "mount the file system for writing",
    errno.ENOENT: "the directory of sink.url is gone: mount its volume, or restart to create it",
    errno.ENOTDIR: "a file stands where a directory is needed: move it away",
    errno.EISDIR: "a directory stands where a file is needed: move it away",
    errno.EEXIST: "a file stands where a directory is needed: move it away",
    errno.ELOOP: "remove the symbolic link; nothing below the directory of sink.url may be one",
    errno.EXDEV: "everything below the directory of sink.url must be on one file system",
    errno.EINVAL: "the file system cannot make a directory durable: choose a directory on another one",
    errno.ENAMETOOLONG: "choose a directory with a shorter path",
}


class LocalSink:
    """Objects as files below `directory`, which ``start`` creates. Temporary files are in its ``.tmp``."""

    def __init__(self, directory: Path) -> None:
        self._root = directory.resolve()
        self._temporary = self._root / _TEMPORARY

    @property
    def url(self) -> str:
        return self._root.as_uri()

    async def start(self) -> None:
        """Create the directory and test that it takes hard links. ``SinkForbidden`` if it does not."""
        await run_detached(self._start)

    async def close(self) -> None:
        pass

    async def put_new(self, key: str, body: bytes, metadata: Mapping[str, str]) -> Stored:
        path = self._path(key)
        check_metadata(metadata)
        return await run_detached(self._put, path, body, metadata)

    async def replace(self, key: str, body: bytes, metadata: Mapping[str, str]) -> None:
        path = self._path(key)
        check_metadata(metadata)
        await run_detached(self._replace, path, body, metadata)

    async def head(self, key: str) -> ObjectInfo | None:
        """The object's metadata, or None; its size is the file's, with the metadata in it."""
        return await run_detached(self._head, key, self._path(key))

    async def get(self, key: str, limit: int | None = None) -> bytes:
        """The file's bytes: the body with the metadata in its header."""
        return await run_detached(_read, self._root, self._path(key), limit)

    async def folders(self, prefix: str) -> list[str]:
        check_folder(prefix)
        return [below for below, is_folder in await run_detached(_entries, self._root, prefix) if is_folder]

    async def list(self, prefix: str) -> AsyncIterator[str]:
        pending = [("", True)]
        while pending:
            name, is_folder = pending.pop()
            if not is_folder:
                yield name
                continue
            below = await run_detached(_entries, self._root, name)
            # A folder's name ends with "/", so this order of names is the order of the whole keys.
            pending.extend(entry for entry in reversed(below) if _leads_to(entry, prefix))

    async def versions(self, prefix: str) -> AsyncIterator[tuple[str, str]]:
        async for key in self.list(prefix):
            if (version := await run_detached(_version, self._path(key))) is not None:
                yield key, version

    def _path(self, key: str) -> Path:
        check_key(key)
        if key.partition("/")[0] == _TEMPORARY:
            raise ValueError(f"key {key!r}: {_TEMPORARY} is for temporary files")
        return self._root / key

    def _start(self) -> None:
        with _mapped(f"prepare {self._root}"):
            existing = next(path for path in (self._root, *self._root.parents) if path.exists())
            self._temporary.mkdir(parents=True, exist_ok=True)
            _must_be_plain(self._root, self._temporary)
            _sync_directories(self._temporary, existing)
            self._clean()
            self._probe()

    def _clean(self) -> None:
        """Remove temporary files of dead processes. By age: process ids mean nothing across containers."""
        oldest = time.time() - _ABANDONED_AFTER_S
        with os.scandir(self._temporary) as entries:
            for entry in islice(entries, _MAX_CLEANED):
                # Another process may clean at the same time.
                with suppress(FileNotFoundError):
                    if entry.stat(follow_symlinks=False).st_mtime < oldest:
                        Path(entry.path).unlink()

    def _probe(self) -> None:
        first, second = self._temporary / _unique(), self._temporary / _unique()
        try:
            _write_durably(first, b"")
            try:
                second.hardlink_to(first)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                raise SinkForbidden(
                    f"{self._root} does not take hard links: {error.strerror}",
                    code=errno.errorcode[error.errno],
                    hint="without them a file could be overwritten: choose a directory on another file system",
                ) from error
        finally:
            first.unlink(missing_ok=True)
            second.unlink(missing_ok=True)

    def _put(self, path: Path, body: bytes, metadata: Mapping[str, str]) -> Stored:
        content = gzip_extra.embed(body, metadata)
        temporary = self._temporary / _unique()
        with _mapped(f"write {path}"):
            try:
                _write_durably(temporary, content)
                _must_be_plain(self._root, path)
                path.parent.mkdir(parents=True, exist_ok=True)
                stored = _link(temporary, path)
                # After EXISTS as well: the caller relies on that file, and its writer may have died before its fsync.
                _sync_directories(path.parent, self._root)
            finally:
                with suppress(OSError):
                    temporary.unlink(missing_ok=True)
        return stored

    def _replace(self, path: Path, body: bytes, metadata: Mapping[str, str]) -> None:
        temporary = self._temporary / _unique()
        with _mapped(f"write {path}"):
            try:
                _write_durably(temporary, gzip_extra.embed(body, metadata))
                _must_be_plain(self._root, path)
                path.parent.mkdir(parents=True, exist_ok=True)
                temporary.replace(path)
            finally:
                with suppress(OSError):
                    temporary.unlink(missing_ok=True)

    def _head(self, key: str, path: Path) -> ObjectInfo | None:
        with _mapped(f"read {path}"):
            _must_be_plain(self._root, path)
            try:
                with path.open("rb") as file:
                    header = file.read(gzip_extra.MAX_HEADER)
                    found = os.fstat(file.fileno())
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                _must_be_there(self._root)
                return None
            # A file that was seen must survive a power failure, because the caller relies on it.
            _sync_directories(path.parent, self._root)
        return ObjectInfo(key, found.st_size, gzip_extra.extract(header), found.st_mtime)


@contextmanager
def _mapped(action: str) -> Iterator[None]:
    """Turn every OSError into one of a sink's two errors."""
    try:
        yield
    except OSError as error:
        number = error.errno or 0
        message = f"cannot {action}: {error.strerror or error}"
        code = errno.errorcode.get(number, "OSError")
        if hint := _HINTS.get(number):
            raise SinkForbidden(message, code=code, hint=hint) from error
        raise SinkUnavailable(message, code=code) from error


def _unique() -> str:
    return f"{os.getpid()}-{uuid.uuid4().hex}"


def _leads_to(entry: tuple[str, bool], prefix: str) -> bool:
    name, is_folder = entry
    return name.startswith(prefix) or (is_folder and prefix.startswith(name))


def _must_be_there(root: Path) -> None:
    """FileNotFoundError if the root is gone, as when a volume is not mounted: then no object is missing."""
    (root / _TEMPORARY).stat()


def _must_be_plain(root: Path, path: Path) -> None:
    """OSError if there is a symbolic link below the root: it may lead out of it, and a listing does not follow it."""
    for part in (path, *path.parents):
        if part == root:
            return
        if part.is_symlink():
            raise OSError(errno.ELOOP, f"there is a symbolic link, {part}")


def _read(root: Path, path: Path, limit: int | None) -> bytes:
    with _mapped(f"read {path}"):
        _must_be_plain(root, path)
        try:
            with path.open("rb") as file:
                return file.read(limit)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            _must_be_there(root)
            raise SinkUnavailable(f"there is no {path}", code="ENOENT") from error


def _version(path: Path) -> str | None:
    """None where the file is gone since it was listed."""
    with _mapped(f"look at {path}"):
        try:
            found = path.stat(follow_symlinks=False)
        except FileNotFoundError:
            return None
    return f"{found.st_ino}-{found.st_mtime_ns}"


def _entries(root: Path, folder: str) -> list[tuple[str, bool]]:
    """The entries of `folder` ("" or ending with "/"), in order: keys, and folders with "/" at the end and True."""
    found = []
    with _mapped(f"list {root / folder}"):
        _must_be_there(root)
        _must_be_plain(root, root / folder)
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(root / folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    found.append((f"{folder}{entry.name}/", True))
                elif entry.is_file(follow_symlinks=False):
                    found.append((folder + entry.name, False))
    return sorted(entry for entry in found if entry[0] != f"{_TEMPORARY}/")


def _write_durably(path: Path, content: bytes) -> None:
    """Create a file with `content` and flush it to disk."""
    with path.open("xb", buffering=0) as file:
        rest = memoryview(content)
        while rest:
            rest = rest[file.write(rest) :]
        os.fsync(file.fileno())


def _link(temporary: Path, path: Path) -> Stored:
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        return Stored.EXISTS
    return Stored.CREATED


def _sync_directories(directory: Path, top: Path) -> None:
    """Flush to disk the names in `directory` and in each directory above it, up to `top`.

    All of them each time: a directory that exists may have been made a moment ago by another writer.
    """
    while True:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if directory in {top, directory.parent}:
            return
        directory = directory.parent
