"""The clean root confines: what a test shows in it is worth something."""

import time
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.root import Confined, Root
from tests.services.process import ServiceError
from tests.services.systemd import system_calls

USER = 61184

WRITES = "open('/opt/x', 'w')"
RENICES = "import os; os.setpriority(os.PRIO_PROCESS, 0, 5)"
MAPS_CODE = "import mmap; mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)"
BECOMES_ROOT = "import os; os.setuid(0)"
CALLS_OUT = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=1)"


@pytest.fixture
def root(tmp_path: Path) -> Root:
    (tmp_path / "opt").mkdir()
    tmp_path.chmod(0o755)  # pytest makes it for its own user alone
    return Root(tmp_path)


def calls() -> list[str]:
    return sorted(system_calls(["@system-service"]) - system_calls(["@resources"]))


@pytest.mark.parametrize(
    ("program", "confinement"),
    [
        (WRITES, {"read_only": True}),
        (RENICES, {"calls": calls}),
        (MAPS_CODE, {"no_exec_gain": True}),
        (BECOMES_ROOT, {"user": USER}),
        (CALLS_OUT, {"network": False}),
    ],
    ids=["writes", "renices", "maps code", "becomes root", "calls out"],
)
def test_refuses_what_it_is_to_refuse(root: Root, program: str, confinement: dict[str, Any]) -> None:
    chosen = {key: value() if callable(value) else value for key, value in confinement.items()}
    with pytest.raises(ServiceError, match=r"Permission|Read-only|not permitted|unreachable"):
        root.run(["python3", "-c", program], {}, **chosen)


@pytest.mark.parametrize("program", [WRITES, RENICES, MAPS_CODE, BECOMES_ROOT])
def test_refuses_nothing_by_itself(root: Root, program: str) -> None:
    root.run(["python3", "-c", program], {})


def test_has_only_the_base_and_what_was_bound(root: Root, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    seen = root.run(
        ["python3", "-c", "import os; print(*os.listdir('/'), os.getpid())"], {}, binds=[(outside, "/in", False)]
    )
    base = {"bin", "dev", "etc", "lib", "lib64", "opt", "proc", "sbin", "usr"}
    assert set(seen.split()) - {"outside"} == base | {"in", "1"}


def test_a_program_with_another_user_ends_with_what_started_it(root: Root, tmp_path: Path) -> None:
    command = root.command(["python3", "-c", "import time; time.sleep(600)"], {}, user=USER)
    process = Confined("sleeper", command, tmp_path / "sleeper.log")
    process.start(lambda: is_python(process))
    inner = process.inner
    process.kill()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{inner}").exists():
        assert time.monotonic() < deadline, "it lives on"
        time.sleep(0.02)


def is_python(process: Confined) -> bool:
    """Whether the program itself runs, and has given up root."""
    try:
        status = Path(f"/proc/{process.inner}/status").read_text()
        command = Path(f"/proc/{process.inner}/cmdline").read_bytes()
    except (ProcessLookupError, FileNotFoundError):
        return False
    return f"Uid:\t{USER}\t" in status and command[-16:] == b"time.sleep(600)\0"
