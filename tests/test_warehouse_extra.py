"""Whoever does not use the local warehouse needs none of its libraries."""

import subprocess
import sys

import pytest

from ingestd.config.model import Config, WarehouseConfig
from ingestd.core.errors import ConfigError
from ingestd.core.events import load_model
from ingestd.demo.warehouse import needed_by
from tests.fakes.memory_sink import MemorySink

HEAVY = "{'duckdb', 'sqlglot', 'numpy'}"


@pytest.mark.parametrize("module", ["cli", "daemon", "commands.query", "commands.verify", "compose"])
def test_its_libraries_are_not_loaded_without_it(module: str) -> None:
    program = f"import sys, ingestd.{module}; print({HEAVY} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_without_it_no_pipe_is_made() -> None:
    from ingestd import wiring  # noqa: PLC0415

    assert wiring.make_local_loader(Config(), load_model(None), MemorySink()) is None


@pytest.mark.parametrize("library", ["duckdb", "sqlglot"])
def test_a_missing_library_is_said_with_what_to_install(library: str) -> None:
    program = (
        f"import sys; sys.modules[{library!r}] = None\n"
        "from ingestd.cli.main import main\n"
        "sys.exit(main(['run', '--source', 'simulator', '--warehouse', 'local', '--sink', sys.argv[1]]))"
    )
    done = subprocess.run([sys.executable, "-c", program, "never-made"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"warehouse.kind = local needs {library}, which is not installed" in done.stderr
    assert 'pip install \\"ingestd[warehouse]\\"' in done.stderr


def test_another_missing_module_is_no_missing_extra() -> None:
    with pytest.raises(ModuleNotFoundError, match="nothing_of_ours"), needed_by("this"):
        import nothing_of_ours  # type: ignore[import-not-found]  # noqa: F401, PLC0415


def test_a_missing_library_is_a_matter_of_configuration() -> None:
    with pytest.raises(ConfigError, match="this needs duckdb"), needed_by("this"):
        raise ModuleNotFoundError(name="duckdb")


def test_a_queue_is_of_no_use_without_a_bucket() -> None:
    from ingestd.config.validate import check  # noqa: PLC0415

    warehouse = WarehouseConfig(kind="local", queue_url="http://127.0.0.1:4566/0/q")
    with pytest.raises(ConfigError, match=r"warehouse\.queue_url = \S+ is of no use"):
        check(Config(warehouse=warehouse))
