"""Tries what the collector needs: its keys and mappings, its port, its journal, its topic."""

import asyncio
import errno
import os
import shutil
import socket
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ingestd import collector_wiring
from ingestd.collect.endpoints import make_endpoints
from ingestd.config.model import CollectConfig, Config
from ingestd.core.errors import ConfigError, ConfigErrors, JournalInUseError, SourceError
from ingestd.core.events import load_model
from ingestd.core.formatting import address, number, size
from ingestd.core.json_validation import make_validator
from ingestd.preflight import CheckFinding, note, ok, produce_probe, wrong

_LOOPBACK = {"127.0.0.1", "localhost", "::1"}


async def look(config: Config) -> list[CheckFinding]:
    """What would keep the collector from taking events."""
    found = [*_sources(config), await asyncio.to_thread(_port, config.collect), *_exposed(config.collect)]
    if config.collect.journal is not None or config.source == "collector":
        found.append(await _journal(config.collect))
        found.append(await asyncio.to_thread(_space, config.collect))
    if config.source == "kafka":
        found += await produce_probe.look(config)
    return found


def _sources(config: Config) -> Iterator[CheckFinding]:
    check, collect = "collect.sources", config.collect
    try:
        make_endpoints(collect, make_validator(config.events, load_model(config.events.model)))
    except ConfigErrors as several:
        for error in several.errors:
            yield wrong(check, error.args[0], error.hint)
        return
    except ConfigError as error:
        yield wrong(check, error.args[0], error.hint)
        return
    kinds = Counter(source.kind for source in collect.sources.values())
    seen = ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items()))
    yield ok(check, f"keys and mappings of {number(len(collect.sources), 'source')} can be used: {seen}")
    browsers = [
        name for name, it in collect.sources.items() if it.kind == "web" and not (it.origins or collect.origins)
    ]
    if browsers:
        yield note(
            "collect.origins",
            f"no web page of another origin may send to {', '.join(browsers)}",
            "name the pages' origins in collect.origins, where the collector is not on the same host",
        )


def _port(collect: CollectConfig) -> CheckFinding:
    check, where = "collect.port", address(collect.host, collect.port)
    family = socket.AF_INET6 if ":" in collect.host else socket.AF_INET
    try:
        with socket.socket(family) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((collect.host, collect.port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return note(
                check, f"{where} is in use", "nothing to do where that is a collector that runs; else choose another"
            )
        return wrong(check, f"cannot listen on {where}: {error.strerror or error}", "choose another host or port")
    return ok(check, f"{where} is free")


def _exposed(collect: CollectConfig) -> Iterator[CheckFinding]:
    if collect.host not in _LOOPBACK and collect.public_url is None:
        seen = f"collect.host = {collect.host}: events and keys travel unencrypted where no proxy adds TLS"
        yield note("collect.host", seen, "put a proxy with TLS in front of it, and set collect.trusted_proxies")


async def _journal(collect: CollectConfig) -> CheckFinding:
    check, path = "collect.journal", collector_wiring.journal_path(collect)
    if not await asyncio.to_thread(path.exists):
        return await asyncio.to_thread(_folder, path)
    journal = collector_wiring.make_journal(collect)
    try:
        await journal.open()
    except JournalInUseError as error:
        return note(check, error.args[0], "nothing to do where that is the collector that uses it")
    except SourceError as error:
        return wrong(check, error.args[0], error.hint or "check the file and its directory")
    try:
        waiting = number(journal.next_offset - journal.first_offset, "event")
        if journal.error is not None:
            return wrong(check, journal.error, "make room on its disk")
        taken = f"{size(journal.size_bytes)} of {collect.journal_bytes}"
        return ok(check, f"{path} can be written: {waiting} in it, {taken}")
    finally:
        await journal.close()


def _folder(path: Path) -> CheckFinding:
    """Whether the journal can be made; no file is left behind."""
    check, folder = "collect.journal", _existing_folder(path)
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"ingestd check")
            os.fsync(file.fileno())
    except OSError as error:
        return wrong(
            check, f"{path} cannot be made: cannot write in {folder}: {error.strerror or error}",
            "correct the folder's owner and rights, or give another collect.journal",
        )  # fmt: skip
    return ok(check, f"{path} will be made, and no other process has it")


def _space(collect: CollectConfig) -> CheckFinding:
    """Whether the journal's disk has room for all that it may take."""
    path = collector_wiring.journal_path(collect)
    try:
        free = shutil.disk_usage(_existing_folder(path)).free
        taken = sum(it.stat().st_size for it in (path, path.with_name(f"{path.name}-wal")) if it.exists())
    except OSError as error:
        return wrong("collect.journal_space", f"{path}: {error.strerror or error}", "check its disk")
    missing = int(collect.journal_bytes) - taken - free
    seen = f"{size(free)} free on the disk of {path}"
    if missing > 0:
        seen += f", {size(missing)} less than collect.journal_bytes = {collect.journal_bytes}"
        return wrong("collect.journal_space", seen, "make room, or lower it: on a full disk senders get 503")
    return ok("collect.journal_space", f"{seen}, enough for collect.journal_bytes = {collect.journal_bytes}")


def _existing_folder(path: Path) -> Path:
    """The first folder above a file that exists."""
    return next(it for it in path.absolute().parents if it.exists())
