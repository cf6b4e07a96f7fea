"""A daemon without page and warehouse loads nothing of the demo, and needs none of its libraries."""

import subprocess
import sys
from pathlib import Path

import pytest

from ingestd.config.model import Config, WarehouseConfig
from ingestd.config.validate import problems
from ingestd.core.errors import ConfigError
from ingestd.core.events import load_model
from ingestd.demo.warehouse import needed_by
from tests.fakes.memory_sink import MemorySink

DEMO = "('ingestd.demo', 'duckdb', 'sqlglot', 'numpy')"


@pytest.mark.parametrize("module", ["cli.main", "daemon", "cli.query", "cli.verify", "wiring"])
def test_an_import_loads_no_library_of_the_warehouse(module: str) -> None:
    program = f"import sys, ingestd.{module}; print({{'duckdb', 'sqlglot', 'numpy'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_a_run_without_page_and_warehouse_imports_nothing_of_the_demo(tmp_path: Path) -> None:
    program = (
        "import sys; from ingestd.cli.main import main; code = main(sys.argv[1:]); "
        f"print(sorted(name for name in sys.modules if name.startswith({DEMO}))); sys.exit(code)"
    )
    arguments = ["--source", "simulator", "--duration", "3s", "--sink", "data", "--set", "health.port=0"]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[]")
    assert "live page" not in done.stderr


def test_without_a_warehouse_there_is_no_loader() -> None:
    from ingestd import wiring  # noqa: PLC0415

    assert wiring.make_local_loader(Config(), load_model(None), MemorySink()) is None


@pytest.mark.parametrize("library", ["duckdb", "sqlglot"])
def test_a_missing_library_names_what_to_install(library: str) -> None:
    program = (
        f"import sys; sys.modules[{library!r}] = None\n"
        "from ingestd.cli.main import main\n"
        "sys.exit(main(['run', '--source', 'simulator', '--warehouse', 'local', '--sink', sys.argv[1]]))"
    )
    done = subprocess.run([sys.executable, "-c", program, "never-made"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"warehouse.kind = local needs {library}, which is not installed" in done.stderr
    assert "pip install duckdb sqlglot segno, or in a clone of ingestd: pip install '.[demo]'" in done.stderr


def test_another_missing_module_is_an_unexpected_error() -> None:
    with pytest.raises(ModuleNotFoundError, match="nothing_of_ours"), needed_by("this"):
        import nothing_of_ours  # type: ignore[import-not-found]  # noqa: F401, PLC0415


def test_a_missing_library_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="this needs duckdb"), needed_by("this"):
        raise ModuleNotFoundError(name="duckdb")


def test_a_queue_without_a_bucket_is_a_configuration_error() -> None:
    warehouse = WarehouseConfig(kind="local", queue_url="http://127.0.0.1:4566/0/q")
    [problem] = problems(Config(warehouse=warehouse))
    assert problem.key == "warehouse.queue_url"
    assert "has no effect" in problem.why
