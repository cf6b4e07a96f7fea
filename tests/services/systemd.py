"""systemd-analyze, which judges units where no systemd runs."""

import os
import subprocess
from pathlib import Path

from tests.services.debian import ensure_file, ensure_package

_PACKAGE = "systemd"


def ensure_systemd() -> Path:
    """The folder with the system's own units."""
    return _existing("lib/systemd/system")


def systemd_analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    library = ensure_file("**/libsystemd-shared-*.so", _PACKAGE, "libsystemd-shared")
    environment = {**os.environ, "LD_LIBRARY_PATH": str(library.parent), "SYSTEMD_COLORS": "0", "SYSTEMD_PAGER": ""}
    program = _existing("bin/systemd-analyze")
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False, env=environment)


def _existing(path: str) -> Path:
    """What is at `path`, or below ``usr``: releases of Debian differ in that."""
    folder = ensure_package(_PACKAGE)
    (found,) = [place for place in (folder / path, folder / "usr" / path) if place.exists()]
    return found


def system_calls(names: list[str]) -> set[str]:
    """The system calls that a SystemCallFilter of these names and groups is about."""
    calls: set[str] = set()
    for name in names:
        if not name.startswith("@"):
            calls.add(name)
            continue
        told = systemd_analyze("syscall-filter", name).stdout.splitlines()
        calls |= system_calls([line.split()[0] for line in told[1:] if line.strip() and "#" not in line])
    return calls
