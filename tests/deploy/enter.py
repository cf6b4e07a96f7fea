"""Confines itself as a container engine or systemd would, and becomes the program: ``python -I -S enter.py JSON``.

It is started as the first process of namespaces of its own, as root; see `root.py` for what is in the document. It
stands alone, on the standard library.
"""

import ctypes
import errno
import fcntl
import json
import os
import signal
import socket
import struct
import sys
from pathlib import Path
from typing import Any

_READ_ONLY, _REMOUNT, _BIND, _RECURSIVE = 1, 32, 4096, 16384
_SET_PDEATHSIG, _CAPBSET_DROP, _NO_NEW_PRIVS, _SET_MDWE, _REFUSE_EXEC_GAIN = 1, 24, 38, 65, 1
_ALLOW, _ERRNO, _EPERM = 0x7FFF0000, 0x00050000, 1
_SET_FLAGS, _UP = 0x8914, 1
_DEVICES = ("null", "zero", "full", "random", "urandom")

_libc = ctypes.CDLL(None, use_errno=True)


def main(spec: dict[str, Any]) -> None:
    """Never returns."""
    root = Path(spec["root"])
    _mount(str(root), root, _BIND)
    for source, target, writable in spec["binds"]:
        _bind(Path(source), root / target.lstrip("/"), writable)
    for device in _DEVICES:
        _bind(Path("/dev") / device, root / "dev" / device, writable=True)
    (root / "proc").mkdir(exist_ok=True)
    _mount("proc", root / "proc", 0, "proc", spec["proc"])
    if spec["read_only"]:
        _mount("none", root, _BIND | _REMOUNT | _READ_ONLY)
    if not spec["network"]:
        _loopback_up()
    os.chroot(root)
    os.chdir(spec["directory"])
    os.umask(0o077 if spec["user"] else 0o022)
    if spec["user"]:
        _give_up_root(spec["user"])
    if spec["no_exec_gain"] and _libc.prctl(_SET_MDWE, _REFUSE_EXEC_GAIN, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "PR_SET_MDWE")
    if spec["calls"]:
        _allow_only(spec["calls"])
    _become(spec["command"], spec["environment"])


def _become(command: list[str], environment: dict[str, str]) -> None:
    """As os.execvpe, which imports a module when it is called: here there is none to be found any more."""
    error: OSError = FileNotFoundError(errno.ENOENT, "no such program", command[0])
    folders = [""] if "/" in command[0] else environment["PATH"].split(":")
    for folder in folders:
        try:
            os.execve(Path(folder, command[0]), command, environment)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except PermissionError as refused:
            error = refused
    raise error


def _mount(source: str, target: Path, flags: int, kind: str = "", data: str = "") -> None:
    words = [word.encode() or None for word in (source, str(target), kind)]
    if _libc.mount(*words, ctypes.c_ulong(flags), data.encode() or None):
        raise OSError(ctypes.get_errno(), f"mount {source} at {target}")


def _bind(source: Path, target: Path, writable: bool) -> None:
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    _mount(str(source), target, _BIND | _RECURSIVE)
    if not writable:
        _mount("none", target, _BIND | _REMOUNT | _READ_ONLY)


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sH14x", b"lo", _UP))


def _give_up_root(user: int) -> None:
    capability = 0
    while _libc.prctl(_CAPBSET_DROP, capability, 0, 0, 0) == 0:
        capability += 1
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    _libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)
    # The kernel forgets it with the change of user; without it the program would live on when `unshare` is killed.
    _libc.prctl(_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _allow_only(calls: list[str]) -> None:
    """All other system calls answer EPERM, as with SystemCallErrorNumber=EPERM."""
    seccomp = ctypes.CDLL("libseccomp.so.2")
    seccomp.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(seccomp.seccomp_init(_ERRNO | _EPERM))
    for call in calls:
        number = seccomp.seccomp_syscall_resolve_name(call.encode())
        if number != -1:  # this machine has it, or had it
            seccomp.seccomp_rule_add(context, ctypes.c_uint32(_ALLOW), number, 0)
    if seccomp.seccomp_load(context):
        raise OSError("seccomp_load")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
