"""Which build of ingestd this is: its commit and that commit's time, which were written into it when it was built."""

import platform
from importlib.resources import files

import msgspec

from ingestd import __version__


class Build(msgspec.Struct, frozen=True):
    """`commit` ends in "-modified" where the tree had changes of its own; either is "unknown" where nobody said."""

    commit: str
    time: str


def build() -> Build | None:
    """None where this is a source tree and no build."""
    try:
        return msgspec.json.decode(files("ingestd").joinpath("build.json").read_bytes(), type=Build)
    except FileNotFoundError:
        return None


def in_words(made: Build | None) -> str:
    """One line, as `ingestd --version` prints it."""
    origin = f"commit {made.commit}, {made.time}" if made else "source tree"
    return f"ingestd {__version__} ({origin}; Python {platform.python_version()})"
