"""Tries the two commands on bare machines: ``python3 tests/fresh_machine.py bookworm trixie sid``, as root on Debian.

Each is a root directory that debootstrap makes, with Python, make and git and nothing else. The last commit is cloned
into a path with a space, and run without a terminal: `make demo` by an ordinary user, a part of `make test` by root,
which gets Java, then `make test` by the user. The report has the seconds, the sizes, and what is left behind:
processes, and files outside of the clone.

It stands on the standard library. --tests names a part of the tests; --folder is where bare roots and logs stay.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parents[1]
BARE = "ca-certificates,python3,make,git,passwd"
AUTHORITIES = Path("/usr/local/share/ca-certificates")
HOME = "/home/newcomer"
CLONE = f"{HOME}/my clone"
LEFT = "/left-behind"
# What a machine needs to reach its package index.
_OURS = re.compile(r"PIP_(?!FIND_LINKS)|SSL_|https?_proxy", re.IGNORECASE)
# The first process of its namespace: what runs beside it at the end was left behind.
_INIT = f"""
cd "$1"; shift
"$@" < /dev/null
code=$?
sleep 2
for process in /proc/[0-9]*; do
  [ "$process" = /proc/$$ ] || tr '\\0' ' ' < $process/cmdline 2>/dev/null
done > {LEFT}
exit $code
"""
# Of the system's own programs, not of ours.
_SYSTEM = ("/dev", "/etc", "/proc", "/usr", "/var", LEFT)


class Step(NamedTuple):
    """A command, who runs it, and what it must come to."""

    what: str
    user: str
    command: str
    succeeds: bool
    says: str = ""


class Outcome(NamedTuple):
    """Of one step."""

    step: Step
    good: bool
    seconds: float
    load: float  # of the whole machine, in its last minutes
    clone_mb: int
    venv_mb: int
    left: str
    said: str


def steps(tests: str, *, deploy: bool) -> list[Step]:
    """In this order, on one machine."""
    part = f" TESTS='{tests}'" if tests else ""
    return [
        Step(
            "demo without venv", "newcomer", "make demo DURATION=20s", succeeds=False, says="needs Python's module venv"
        ),
        Step("(install venv)", "root", "apt-get install -y -qq python3-venv > /dev/null", succeeds=True),
        Step("demo", "newcomer", "make demo DURATION=20s", succeeds=True, says="verified"),
        Step("demo again", "newcomer", "make demo DURATION=20s", succeeds=True, says="verified"),
        Step("test without Java", "newcomer", "make test", succeeds=False, says="needs Java 17 or newer, Maven"),
        Step("test-deploy without root", "newcomer", "make test-deploy", succeeds=False, says="needs root"),
        Step("a part of test", "root", "make test TESTS=tests/test_batch.py", succeeds=True, says=" passed"),
        Step("test", "newcomer", f"make test{part}", succeeds=True, says=" passed"),
        *([Step("test-deploy", "root", "make test-deploy", succeeds=True, says=" passed")] if deploy else []),
    ]


def main() -> None:
    """Exit with 1 where a step has not come to what it must."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suites", nargs="+", help="releases of Debian")
    parser.add_argument("--tests", default="", help="arguments of pytest: a part of the tests")
    parser.add_argument("--deploy", action="store_true", help="make test-deploy as well")
    parser.add_argument("--folder", type=Path, help="keeps the bare roots and the logs")
    parser.add_argument("--mirror", default="http://deb.debian.org/debian")
    options = parser.parse_args()
    if os.geteuid() != 0 or not shutil.which("debootstrap"):
        sys.exit("it needs root and debootstrap: apt-get install debootstrap")
    with tempfile.TemporaryDirectory(prefix="fresh-") as scratch:
        folder = (options.folder or Path(scratch)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        good = [tried(folder, suite, options) for suite in options.suites]
    sys.exit(not all(good))


def tried(folder: Path, suite: str, options: argparse.Namespace) -> bool:
    """One machine: whether all of it was good."""
    with machine(folder, suite, options.mirror) as root:
        python = run(root, "root", "/", "python3 --version").stdout.strip()
        print(f"\n{suite}, {python}\n", flush=True)
        print(
            "| Step | Good | Seconds | Load | Clone, MB | .venv, MB | Says | Left behind |\n"
            "|---|---|---:|---:|---:|---:|---|---|",
            flush=True,
        )
        outcomes = []
        for step in steps(options.tests, deploy=options.deploy):
            outcome = done(root, step, folder / f"{suite}.log")
            outcomes.append(outcome)
            sign = "yes" if outcome.good else "NO"
            numbers = f"{outcome.seconds:.0f} | {outcome.load:.1f} | {outcome.clone_mb} | {outcome.venv_mb}"
            print(f"| {step.what} | {sign} | {numbers} | {outcome.said} | {outcome.left} |", flush=True)
    return all(outcome.good for outcome in outcomes)


def done(root: Path, step: Step, log: Path) -> Outcome:
    """Take one step."""
    run(root, "root", "/", f"chown -R {step.user}: '{CLONE}'")
    stamp = root / "stamp"
    stamp.touch()
    began = time.monotonic()
    finished = run(root, step.user, CLONE, step.command)
    seconds, load = time.monotonic() - began, os.getloadavg()[1]
    with log.open("a") as file:
        file.write(f"\n=== {step.what}: {finished.returncode}\n{finished.stdout}")
    good = (finished.returncode == 0) == step.succeeds and step.says in finished.stdout
    processes = (root / LEFT[1:]).read_text().strip()
    files = [str(it) for it in outside(root, stamp.stat().st_mtime)]
    left = "; ".join([*([processes] if processes else []), *files[:5]])
    said = next((line for line in reversed(finished.stdout.splitlines()) if step.says and step.says in line), "")
    sizes = megabytes(root / CLONE[1:]), megabytes(root / CLONE[1:] / ".venv")
    return Outcome(step, good and not processes, seconds, load, *sizes, left, said)


@contextmanager
def machine(folder: Path, suite: str, mirror: str) -> Iterator[Path]:
    """A root directory that is thrown away, with the clone in it."""
    bare, root = folder / f"{suite}-bare", folder / suite
    if not bare.exists():
        made = folder / f"{suite}-partial"
        shutil.rmtree(made, ignore_errors=True)
        subprocess.run(
            ["debootstrap", "--variant=minbase", f"--include={BARE}", suite, made, mirror],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        made.rename(bare)
    shutil.rmtree(root, ignore_errors=True)
    subprocess.run(["cp", "-a", bare, root], check=True)
    for name in ("resolv.conf", "hosts"):
        shutil.copyfile(Path("/etc", name), root / "etc" / name)
    for authority in AUTHORITIES.glob("*.crt"):
        shutil.copy(authority, root / "usr/local/share/ca-certificates")
    # A mirror of the release that is in development may be older than its lists are valid.
    (root / "etc/apt/apt.conf.d/99fresh").write_text('Acquire::Check-Valid-Until "false";\n')
    prepared = run(root, "root", "/", "update-ca-certificates && apt-get update -qq && useradd --create-home newcomer")
    if prepared.returncode:
        sys.exit(f"{suite} cannot be prepared:\n{prepared.stdout}")
    subprocess.run(["git", "clone", "--quiet", REPOSITORY, root / CLONE[1:]], check=True)
    try:
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)


def run(root: Path, user: str, directory: str, command: str) -> "subprocess.CompletedProcess[str]":
    """In namespaces of its own, so that what is left behind is seen, and ends with it."""
    home = "/root" if user == "root" else HOME
    environment = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": home,
        "LANG": "C.UTF-8",
        "DEBIAN_FRONTEND": "noninteractive",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "safe.directory",
        "GIT_CONFIG_VALUE_0": "*",
        **{key: value for key, value in os.environ.items() if _OURS.match(key)},
    }
    # A mount of its own, so that programs in it may make namespaces.
    mounts = 'mount --bind "$0" "$0"; mount --rbind /dev "$0/dev"; mount -t proc proc "$0/proc"; exec chroot "$0" "$@"'
    become = [] if user == "root" else ["setpriv", "--reuid=newcomer", "--regid=newcomer", "--init-groups"]
    init = ["/bin/bash", "-c", _INIT, "init", directory, *become, "/bin/bash", "-c", command]
    return subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", mounts, root, *init],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env=environment,
    )


def outside(root: Path, since: float) -> Iterator[Path]:
    """Files outside of the clone that are new."""
    for folder, names, files in os.walk(root):
        inner = Path("/", Path(folder).relative_to(root))
        names[:] = [it for it in names if str(inner / it) not in (*_SYSTEM, CLONE)]
        for name in files:
            path = Path(folder, name)
            if path.lstat().st_mtime >= since and str(inner / name) not in (*_SYSTEM, "/stamp"):
                yield inner / name


def megabytes(folder: Path) -> int:
    if not folder.exists():
        return 0
    told = subprocess.run(["du", "-sm", folder], capture_output=True, text=True, check=True).stdout
    return int(told.split()[0])


if __name__ == "__main__":
    main()
