"""The build that runs: its commit and the commit's time, which the build writes into the package."""

import platform
from importlib.resources import files

import msgspec

from ingestd import __version__


class BuildInfo(msgspec.Struct, frozen=True):
    """`commit` ends in "-modified" where the tree had uncommitted changes; unknown values are "unknown"."""

    commit: str
    time: str


def read_build_info() -> BuildInfo | None:
    """None where the package is not a build but a source tree."""
    try:
        return msgspec.json.decode(files("ingestd").joinpath("build.json").read_bytes(), type=BuildInfo)
    except FileNotFoundError:
        return None


def version_line(build: BuildInfo | None) -> str:
    """One line, as `ingestd --version` prints it."""
    origin = f"commit {build.commit}, {build.time}" if build else "source tree"
    return f"ingestd {__version__} ({origin}; Python {platform.python_version()})"
