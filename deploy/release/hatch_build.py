"""Writes into each package which commit it was built from: ingestd/build.json, that `ingestd --version` reads."""

import json
import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FILE = "ingestd/build.json"


class BuildData(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        # An editable install goes on changing, and a tree unpacked from an sdist has its file.
        if version == "editable" or (Path(self.root) / FILE).exists():
            return
        self._folder = TemporaryDirectory()
        file = Path(self._folder.name) / "build.json"
        file.write_text(json.dumps({"commit": self._commit(), "time": self._time()}) + "\n")
        build_data["force_include"][str(file)] = FILE

    def finalize(self, *_: Any) -> None:
        if hasattr(self, "_folder"):
            self._folder.cleanup()

    def _commit(self) -> str:
        """INGESTD_COMMIT where there is no repository, as in an image's build."""
        if given := os.environ.get("INGESTD_COMMIT"):
            return given
        commit = self._git("rev-parse", "HEAD")
        return f"{commit}-modified" if commit and self._git("status", "--porcelain") else commit or "unknown"

    def _time(self) -> str:
        """Of the commit, never the clock's: the same commit makes the same bytes."""
        seconds = os.environ.get("SOURCE_DATE_EPOCH") or self._git("log", "-1", "--format=%ct")
        return datetime.fromtimestamp(int(seconds), UTC).isoformat().replace("+00:00", "Z") if seconds else "unknown"

    def _git(self, *arguments: str) -> str:
        if not (Path(self.root) / ".git").exists():  # else git looks in the folders above, which are somebody else's
            return ""
        try:
            done = subprocess.run(["git", *arguments], cwd=self.root, capture_output=True, text=True, check=False)  # noqa: S603, S607
        except FileNotFoundError:
            return ""
        return done.stdout.strip() if done.returncode == 0 else ""
