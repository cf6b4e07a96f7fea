"""A disk that can be full."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def small_disk(directory: Path) -> Iterator[None]:
    """A file system of its own with room for some megabytes, where there is no directory yet."""
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", str(directory)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


def can_mount() -> bool:
    """Whether this process may make one."""
    with tempfile.TemporaryDirectory() as directory:
        try:
            with small_disk(Path(directory) / "small"):
                return True
        except (OSError, subprocess.CalledProcessError):
            return False


@contextmanager
def full(directory: Path) -> Iterator[None]:
    """For a while there is no room on the file system of the directory."""
    filler = directory / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    try:
        yield
    finally:
        filler.unlink()
