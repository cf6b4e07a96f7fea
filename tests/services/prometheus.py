"""Prometheus and Alertmanager on ports of their own, and promtool."""

import json
import os
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self

import yaml

from tests.services.debian import ensure_file, ensure_package
from tests.services.ports import HOST, free_port
from tests.services.process import Process

_PROMETHEUS, _ALERTMANAGER = "prometheus", "prometheus-alertmanager"


def ensure_prometheus() -> list[Path]:
    """The programs that the tests run."""
    return [
        ensure_file("usr/bin/prometheus", _PROMETHEUS),
        ensure_file("usr/bin/promtool", _PROMETHEUS, "promtool"),
        ensure_file("usr/bin/prometheus-alertmanager", _ALERTMANAGER),
        ensure_file("usr/bin/amtool", _ALERTMANAGER),
    ]


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run promtool to its end."""
    return _run(ensure_file("usr/bin/promtool", _PROMETHEUS, "promtool"), *arguments)


def amtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run amtool to its end."""
    return _run(ensure_package(_ALERTMANAGER) / "usr/bin/amtool", *arguments)


def _run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _alertmanager() -> list[str]:
    """Debian's build reads a template from below /usr/share and from nowhere else: it gets its own, in a mount
    namespace.
    """
    package = ensure_package(_ALERTMANAGER)
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    mount = 'mount --bind "$0" /usr/share && exec "$@"'
    program = package / "usr/bin/prometheus-alertmanager"
    return ["unshare", *user, "--mount", "sh", "-c", mount, str(package / "usr/share"), str(program)]


class _Server:
    """A process that answers HTTP, from ``with`` to its end."""

    def __init__(self, name: str, program: list[str], directory: Path, arguments: list[str]) -> None:
        self.port = free_port()
        directory.mkdir(parents=True, exist_ok=True)
        listen = f"--web.listen-address={HOST}:{self.port}"
        self._process = Process(name, [*program, listen, *arguments], directory / f"{name}.log")

    def __enter__(self) -> Self:
        self._process.start(self._answers)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stop()

    def get(self, path: str, **parameters: str) -> Any:
        """The JSON of an answer. OSError where there is none."""
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"http://{HOST}:{self.port}{path}?{query}", timeout=10) as answer:
            return json.load(answer)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{HOST}:{self.port}/-/ready", timeout=5) as answer:
                return bool(answer.status == HTTPStatus.OK)
        except OSError:
            return False


class Alertmanager(_Server):
    """With the configuration `config`, but that it sends everything, and its end, to `webhook` at once."""

    def __init__(self, directory: Path, config: Path, webhook: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        settings = yaml.safe_load(config.read_text())
        # Each alert is a group of its own, so that one that resolves does not wait for another that has not.
        settings["route"] |= {"group_by": ["..."], "group_wait": "0s", "group_interval": "1s"}
        for receiver in settings["receivers"]:
            receiver["webhook_configs"] = [{"url": f"{webhook}{receiver['name']}"}]
        file = directory / "alertmanager.yml"
        file.write_text(yaml.safe_dump(settings))
        super().__init__(
            "alertmanager",
            _alertmanager(),
            directory,
            [f"--config.file={file}", f"--storage.path={directory / 'data'}", "--cluster.listen-address="],
        )


class Prometheus(_Server):
    """It scrapes `targets` (host:port) as job ``ingestd`` and evaluates `rules`, both every second."""

    def __init__(self, directory: Path, targets: list[str], rules: Path, alertmanager: Alertmanager | None) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        config: dict[str, Any] = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(rules)],
            "scrape_configs": [{"job_name": "ingestd", "static_configs": [{"targets": targets}]}],
        }
        if alertmanager is not None:
            managers = [{"static_configs": [{"targets": [f"{HOST}:{alertmanager.port}"]}]}]
            config["alerting"] = {"alertmanagers": managers}
        file = directory / "prometheus.yml"
        file.write_text(yaml.safe_dump(config))
        super().__init__(
            "prometheus",
            [str(ensure_package(_PROMETHEUS) / "usr/bin/prometheus")],
            directory,
            [f"--config.file={file}", f"--storage.tsdb.path={directory / 'data'}", "--rules.alert.resend-delay=1s"],
        )

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The vector of an instant query: `metric` and `value` of each sample. ValueError for a query that is wrong."""
        return self._ask("query", query=expression)

    def query_range(self, expression: str, seconds: float, step: float = 1.0) -> list[dict[str, Any]]:
        """The last so many seconds: `metric` and `values` of each series. ValueError for a query that is wrong."""
        now = time.time()
        return self._ask(
            "query_range", query=expression, start=f"{now - seconds:.3f}", end=f"{now:.3f}", step=f"{step:g}"
        )

    def until(self, expression: str, condition: Callable[[list[dict[str, Any]]], object], deadline: float) -> None:
        """Wait until the answer meets `condition`."""
        limit = time.monotonic() + deadline
        while not condition(found := self.query(expression)):
            assert time.monotonic() < limit, f"{expression} is {found} after {deadline:g} s"
            time.sleep(0.2)

    def _ask(self, path: str, **parameters: str) -> list[dict[str, Any]]:
        try:
            answer = self.get(f"/api/v1/{path}", **parameters)
        except urllib.error.HTTPError as error:
            with error:
                raise ValueError(f"{parameters['query']}: {error.read().decode()}") from None
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found
