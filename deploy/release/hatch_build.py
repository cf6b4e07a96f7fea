"""Adds two things to the packages: ingestd/build.json, which names the commit, and in wheels the example configuration.

`ingestd --version` reads the first, `ingestd config --example` the second.
"""

import json
import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

BUILD_DATA = "ingestd/build.json"
EXAMPLES = "ingestd/config/example_files"


class ReleaseFiles(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":  # a source tree changes after its install: it has no commit, and reads its own config
            return
        included = build_data["force_include"]
        if self.target_name == "wheel":
            included[str(Path(self.root) / "config")] = EXAMPLES
        if not (Path(self.root) / BUILD_DATA).exists():  # a tree unpacked from an sdist has the file
            self._folder = TemporaryDirectory()
            file = Path(self._folder.name) / "build.json"
            file.write_text(json.dumps({"commit": self._commit(), "time": self._time()}) + "\n")
            included[str(file)] = BUILD_DATA

    def finalize(self, *_: Any) -> None:
        if hasattr(self, "_folder"):
            self._folder.cleanup()

    def _commit(self) -> str:
        """The commit of the repository, or INGESTD_COMMIT where there is no repository, as in an image's build."""
        if given := os.environ.get("INGESTD_COMMIT"):
            return given
        commit = self._git("rev-parse", "HEAD")
        return f"{commit}-modified" if commit and self._git("status", "--porcelain") else commit or "unknown"

    def _time(self) -> str:
        """The commit's time, never the clock's: the same commit makes the same bytes."""
        seconds = os.environ.get("SOURCE_DATE_EPOCH") or self._git("log", "-1", "--format=%ct")
        return datetime.fromtimestamp(int(seconds), UTC).isoformat().replace("+00:00", "Z") if seconds else "unknown"

    def _git(self, *arguments: str) -> str:
        if not (Path(self.root) / ".git").exists():  # git would look in the parent folders, which are not ours
            return ""
        try:
            done = subprocess.run(["git", *arguments], cwd=self.root, capture_output=True, text=True, check=False)  # noqa: S603, S607
        except FileNotFoundError:
            return ""
        return done.stdout.strip() if done.returncode == 0 else ""
