"""The shape of the house, as a test: who may know whom."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "ingestd"
FILES = sorted(ROOT.rglob("*.py"))

#: Each outside library has one room.
ROOMS: dict[str, str | tuple[str, ...]] = {
    "aiokafka": "sources/kafka/",
    "kafka": "sources/kafka/",
    "aiobotocore": ("sinks/s3.py", "warehouse/notices.py"),
    "botocore": ("sinks/s3.py", "warehouse/notices.py"),
    "aiohttp": "http.py",
    "prometheus_client": "metrics.py",
    "rich": "terminal.py",
    "isal": "encode.py",
    "uvloop": "compose.py",
    "snowflake": "snowflake/connection.py",
    "jwt": "snowflake/token.py",
    "cryptography": "snowflake/token.py",
    "duckdb": "warehouse/",
    "sqlglot": "warehouse/",
}
#: What decides, and does no I/O: no event loop, no clock, no logging, no metrics.
PURE = {
    "audit/chains.py", "audit/contents.py", "audit/findings.py", "audit/ranges.py", "audit/reconcile.py",
    "audit/report.py", "audit/second_look.py",
    "batch.py", "breaker.py", "chain.py", "clients.py", "encode.py", "errors.py", "events.py",
    "features/model.py", "features/relations.py", "features/score.py", "gzip_extra.py", "histogram.py", "layout.py",
    "measured.py", "planning.py", "quarantine.py", "records.py", "requeue/parcels.py", "retry.py", "simulation.py",
    "snowflake/bucket.py", "snowflake/ddl.py", "snowflake/drift.py", "snowflake/pipe.py", "snowflake/place.py",
    "snowflake/following.py", "snowflake/history.py", "snowflake/pipe_status.py", "snowflake/reconcile.py",
    "snowflake/sql.py", "snowflake/statements.py", "snowflake/table.py", "status.py", "steps.py",
    "validate.py", "watchdog.py",
}  # fmt: skip
IMPURE = {
    "asyncio",
    "logging",
    "socket",
    "threading",
    "time",
    "ingestd.ops.metrics",
    "ingestd.ops.logs",
    "ingestd.daemon",
}
OURS_OR_STANDARD = {"ingestd", *sys.stdlib_module_names}


def name(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(file)} imports relatively"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("file", FILES, ids=name)
def test_each_outside_library_is_imported_in_one_place(file: Path) -> None:
    for module in imports(file):
        library = module.split(".")[0]
        if library in OURS_OR_STANDARD or library in {"msgspec", "types_aiobotocore_s3"}:
            continue
        assert library in ROOMS, f"{library} has no room: give it one here, with a reason in pyproject.toml"
        assert name(file).startswith(ROOMS[library]), f"{library} belongs into {ROOMS[library]}"


@pytest.mark.parametrize("file", sorted(PURE))
def test_the_core_is_pure(file: str) -> None:
    assert not IMPURE & set(imports(ROOT / file))


@pytest.mark.parametrize("file", FILES, ids=name)
def test_sources_know_no_sinks_and_sinks_no_batches(file: Path) -> None:
    kind = name(file).split("/")[0]
    strangers = {
        "sources": ("ingestd.sinks.base", "ingestd.core.batch", "ingestd.core.chain"),
        "sinks": ("ingestd.sources.base", "ingestd.core.batch", "ingestd.core.chain", "ingestd.core.object_keys"),
    }.get(kind, ())
    assert not [module for module in imports(file) if strangers and module.startswith(strangers)]


@pytest.mark.parametrize("file", FILES, ids=name)
def test_only_the_composition_knows_concrete_parts(file: Path) -> None:
    if (
        name(file) == "compose.py"
        or name(file).startswith("commands/")
        or name(file).startswith(("sources/", "sinks/"))
    ):
        return
    concrete = ("ingestd.sources.base.", "ingestd.sinks.base.")
    named = {"ingestd.sources.base.Source", "ingestd.sources.base.Listener", "ingestd.sources.base.Fetched"}
    named |= {"ingestd.sinks.base.Sink", "ingestd.sinks.base.Stored", "ingestd.sinks.base.ObjectInfo"}
    assert not [module for module in imports(file) if module.startswith(concrete) and module not in named]


@pytest.mark.parametrize("file", FILES, ids=name)
def test_rooms_and_functions_stay_small(file: Path) -> None:
    text = file.read_text()
    assert text.count("\n") <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno <= 60, f"{node.name} is long: what is it two of?"
