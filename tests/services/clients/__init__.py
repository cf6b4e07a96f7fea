"""Analytics SDKs as child processes that send a list of calls: those of Python, Node and the JVM."""

import asyncio
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Self

from tests.services import node
from tests.services.environment import ensure_environment, ensure_folder
from tests.services.maven import fetch, pom_version
from tests.services.process import ServiceError

FOLDER = Path(__file__).parent
PYTHON_REQUIREMENTS = FOLDER / "python-requirements.txt"
POM = FOLDER / "pom.xml"
_JAVA_SOURCE = FOLDER / "SegmentKotlin.java"
_LAUNCHER = FOLDER.parent / "die_with_parent.py"

Call = Mapping[str, Any]  # as in Segment's specification: type, userId, event, properties


class Client(NamedTuple):
    """An SDK: its package, its version, and the command before the collector's address and the key."""

    package: str
    version: str
    command: Callable[[], Sequence[str]]


def _python(program: str, *arguments: str) -> Callable[[], Sequence[str]]:
    return lambda: (str(python_environment() / "bin" / "python"), str(FOLDER / program), *arguments)


def _pinned(file: Path, package: str) -> str:
    match = re.search(rf"^{re.escape(package)}==(.+)$", file.read_text(), re.MULTILINE)
    assert match, f"{file} names no {package}"
    return match[1]


PYTHON_CLIENTS = {
    f"{name}-python": Client(package, _pinned(PYTHON_REQUIREMENTS, package), command)
    for name, package, command in (
        ("segment", "segment-analytics-python", _python("analytics_python.py", "segment")),
        ("rudder", "rudder-sdk-python", _python("analytics_python.py", "rudderstack")),
        ("snowplow", "snowplow-tracker", _python("snowplow_python.py")),
    )
}


def _node(program: str) -> Callable[[], Sequence[str]]:
    return lambda: ("env", f"NODE_PATH={node_modules()}", str(node.node_program()), str(FOLDER / program))


def npm_version(package: str) -> str:
    """The version of an SDK from npm."""
    found: str = json.loads((FOLDER / "package.json").read_text())["dependencies"][package]
    return found


NODE_CLIENTS = {
    f"{name}-node": Client(package, npm_version(package), _node(f"{name}_node.cjs"))
    for name, package in (("segment", "@segment/analytics-node"), ("rudder", "@rudderstack/rudder-sdk-node"))
}


def _java() -> Sequence[str]:
    return ("java", "-XX:-UsePerfData", "-cp", f"{jvm_program()}:{jvm_program()}/*", "SegmentKotlin")


JVM_CLIENTS = {"segment-kotlin": Client("com.segment.analytics.kotlin:core", pom_version(POM, "segment"), _java)}

CLIENTS = {**PYTHON_CLIENTS, **NODE_CLIENTS, **JVM_CLIENTS}


class Sender:
    """An SDK that sends to `url`: calls are handed over one by one. It is killed at the end of the context."""

    def __init__(self, client: Client, url: str, key: str) -> None:
        self._command = [*client.command(), url, key]
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        # The launcher ends the SDK with this process, as other services.
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", str(_LAUNCHER), str(os.getpid()), *self._command,
            stdin=asyncio.subprocess.PIPE,
        )  # fmt: skip
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def send(self, calls: Iterable[Call]) -> None:
        """Hand calls over."""
        assert self._process
        assert self._process.stdin
        self._process.stdin.write(b"".join(json.dumps(call).encode() + b"\n" for call in calls))
        await self._process.stdin.drain()

    def close(self) -> None:
        """Say that these were all calls: the SDK sends what it has not sent yet."""
        assert self._process
        assert self._process.stdin
        self._process.stdin.close()


def python_environment() -> Path:
    """Where Python's SDKs are."""
    return ensure_environment("clients", PYTHON_REQUIREMENTS)


def node_modules() -> Path:
    """The folder node_modules with the SDKs from npm."""
    return node.node_modules(FOLDER, "clients")


@cache
def jvm_program() -> Path:
    """The folder with the SDK's jars and our compiled program, fetched through Maven the first time."""
    stamp = hashlib.sha256(POM.read_bytes() + _JAVA_SOURCE.read_bytes()).hexdigest()[:12]

    def fill(folder: Path) -> None:
        fetch(POM, folder)
        _compile(folder)

    return ensure_folder(f"clients-jvm-{stamp}", fill)


def _compile(folder: Path) -> None:
    # Not every Java has javac.
    compiler = next(folder.glob("ecj-*.jar"))
    jars = ":".join(map(str, folder.glob("*.jar")))
    command = ["java", "-XX:-UsePerfData", "-jar", str(compiler), "-17", "-cp", jars, "-d", str(folder)]
    done = subprocess.run([*command, str(_JAVA_SOURCE)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ServiceError(f"{_JAVA_SOURCE.name} cannot be compiled:\n{done.stdout}{done.stderr}")
