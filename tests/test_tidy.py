"""The shape of the house, as a test: which package may import which."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.syntax import parsed

ROOT = Path(__file__).parent.parent / "ingestd"
FILES = sorted(ROOT.rglob("*.py"))

#: Each outside library is imported in one file or folder.
LIBRARIES: dict[str, tuple[str, ...]] = {
    "aiokafka": ("sources/kafka/",),
    "kafka": ("sources/kafka/",),
    "aiobotocore": (
        "ops/aws_session.py",
        "ops/aws_json.py",
        "sinks/s3.py",
        "demo/warehouse/sqs_events.py",
        "sources/kinesis/client.py",
    ),
    "botocore": (
        "ops/aws_session.py",
        "ops/aws_errors.py",
        "sinks/s3.py",
        "sinks/s3_errors.py",
        "demo/warehouse/sqs_events.py",
        "sources/kinesis/errors.py",
        "ops/aws_json.py",
        "sources/sqs/errors.py",
        "sources/kafka/msk_iam.py",
    ),
    "aiohttp": (
        "collect/server.py",
        "ops/http.py",
        "ops/health.py",
        "ops/http_client.py",
        "ops/loop_errors.py",
        "demo/page/",
        "demo/shop/server.py",
    ),
    "segno": ("demo/shop/qr_code.py",),
    "prometheus_client": (
        "ops/metrics.py",
        "ops/metric_store.py",
        "ops/collect_metrics.py",
        "ops/queue_metrics.py",
        "ops/registry_metrics.py",
        "ops/process_metrics.py",
    ),
    "click": ("cli/",),
    "rich": ("ops/terminal.py",),
    "isal": ("core/gzip.py",),
    "uvloop": ("wiring.py",),
    "snowflake": ("snowflake/connection.py",),
    "jwt": ("snowflake/token.py",),
    "cryptography": ("snowflake/token.py", "collect/hooks/public_keys.py"),
    "defusedxml": ("collect/hooks/soap.py",),
    "google": ("core/values/", "sources/registry/__init__.py"),
    "proto_schema_parser": ("core/values/", "sources/registry/__init__.py"),
    "duckdb": ("demo/warehouse/",),
    "sqlglot": ("demo/warehouse/",),
}
#: What a pure file does not import: no event loop, no clock, no I/O, no logging, no metrics.
IMPURE = (
    "asyncio", "concurrent", "ctypes", "logging", "os", "pathlib", "select", "signal", "socket", "ssl", "subprocess",
    "tempfile", "threading", "time", "urllib.request", "ingestd.ops.metrics", "ingestd.ops.logs", "ingestd.daemon",
    "ingestd.wiring", "ingestd.collector_wiring", "ingestd.inspection",
)  # fmt: skip
#: From the ground up: a package imports from its own and from floors below, never from its neighbours or from above.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("__init__",),
    ("core",),
    ("config", "events"),
    ("ops",),
    ("sources", "sinks"),
    ("pipeline", "snowflake", "capacity", "collect"),
    ("verify", "requeue"),
    ("demo",),
    ("wiring", "collector_wiring"),
    ("inspection",),
    ("preflight",),
    ("daemon",),
    ("cli",),
    ("__main__",),
)
FLOOR_OF = {package: number for number, floor in enumerate(FLOORS) for package in floor}
#: Only these may name a concrete source or sink; everybody else knows the ports.
CONCRETE = ("wiring.py", "collector_wiring.py", "inspection.py", "preflight/", "cli/", "sources/", "sinks/")
PORTS = {
    "ingestd.sources.base",
    "ingestd.sources.sqs.port",
    "ingestd.sinks.base",
    "ingestd.sinks.create_only",
    "ingestd.sinks.retry",
    "ingestd.sinks.listing",
}
OURS_OR_STANDARD = {"ingestd", *sys.stdlib_module_names}


def name(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def imports(file: Path) -> Iterator[str]:
    for node in ast.walk(parsed(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(file)} imports relatively"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def docstring(file: Path) -> str:
    return ast.get_docstring(parsed(file.read_text())) or ""


def is_pure(file: Path) -> bool:
    """All of core/, and each file that says so in the first paragraph of its docstring."""
    return name(file).startswith("core/") or any(
        word in docstring(file).split("\n\n")[0] for word in ("Pure.", "Pure:")
    )


def package(module: str) -> str:
    inner = module.removeprefix("ingestd").removeprefix(".").split(".")[0]
    return inner if inner in FLOOR_OF else "__init__"


@pytest.mark.parametrize("file", FILES, ids=name)
def test_each_outside_library_is_imported_in_one_place(file: Path) -> None:
    for module in imports(file):
        library = module.split(".")[0]
        if library in OURS_OR_STANDARD or library in {"msgspec", "types_aiobotocore_s3"}:
            continue
        assert library in LIBRARIES, f"{library} has no place: give it one here, with a reason in pyproject.toml"
        assert name(file).startswith(LIBRARIES[library]), f"{library} is imported in {LIBRARIES[library]} only"


@pytest.mark.parametrize("file", [file for file in FILES if is_pure(file)], ids=name)
def test_a_pure_file_does_no_io(file: Path) -> None:
    impure = [module for module in imports(file) if f"{module}.".startswith(tuple(f"{it}." for it in IMPURE))]
    assert not impure


@pytest.mark.parametrize("file", FILES, ids=name)
def test_nothing_points_back_up(file: Path) -> None:
    own = file.relative_to(ROOT).parts[0].removesuffix(".py")
    for module in imports(file):
        if module == "ingestd" or module.startswith("ingestd."):
            below = package(module)
            assert below == own or FLOOR_OF[below] < FLOOR_OF[own], f"{own} imports {module}, which is not below it"


@pytest.mark.parametrize("file", FILES, ids=name)
def test_only_the_wiring_knows_concrete_sources_and_sinks(file: Path) -> None:
    if name(file).startswith(CONCRETE):
        return
    for module in imports(file):
        if module.startswith(("ingestd.sources.", "ingestd.sinks.")):
            assert module in PORTS or module.rpartition(".")[0] in PORTS, f"{module} is concrete"


@pytest.mark.parametrize("file", [file for file in FILES if name(file).startswith("sinks/")], ids=name)
def test_sinks_know_no_batches(file: Path) -> None:
    batches = ("batch", "chain", "flush_policy", "object_keys", "object_metadata", "records")
    assert not {f"ingestd.core.{module}" for module in batches} & set(imports(file))


@pytest.mark.parametrize("file", FILES, ids=name)
def test_no_pattern_repeats_a_group_possessively(file: Path) -> None:
    """Python before 3.11.5 does not find what such a pattern matches (python/cpython#106052); Debian 12 has 3.11.2."""
    for node in ast.walk(parsed(file.read_text())):
        text = node.value if isinstance(node, ast.Constant) else None
        text = text.decode("latin-1") if isinstance(text, bytes) else text
        if isinstance(text, str):
            without_sets = re.sub(r"\[\^?\]?(?:\\.|[^\]\\])*\]", "x", text)
            assert not re.search(r"[^\\]\)[*+?]\+|\(\?>", without_sets), text


@pytest.mark.parametrize("file", FILES, ids=name)
def test_a_file_says_what_it_is_in_its_first_line(file: Path) -> None:
    first = docstring(file).split("\n")[0]
    assert 10 <= len(first) <= 117
    assert first.rstrip().endswith("."), first


@pytest.mark.parametrize("file", FILES, ids=name)
def test_files_and_functions_stay_small(file: Path) -> None:
    text = file.read_text()
    assert text.count("\n") <= 400
    for node in ast.walk(parsed(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno <= 60, f"{node.name} is long: what is it two of?"
