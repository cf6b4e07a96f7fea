"""The command line: commands, flags, errors, exit codes, help and completion."""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

import ingestd
from ingestd.cli import check, produce, requeue, verify
from ingestd.cli import main as cli
from ingestd.cli.commands import COMMON_FLAGS, PROGRAM, CommandGroup
from ingestd.cli.flags import SETTINGS
from ingestd.config.load import Settings
from ingestd.config.types import Rate
from ingestd.core.errors import BreakerOpen, ConfigError, DeadlineExceeded, IngestdError, SinkForbidden, SourceError
from ingestd.core.rejections import Reason
from tests.redaction import fresh_redaction

ROOT = Path(__file__).parent.parent
Command = Callable[[Settings], int]


class Daemon(ModuleType):
    """Replaces `ingestd.daemon` and the other commands: records the settings, and returns or raises `outcome`."""

    def __init__(self) -> None:
        super().__init__("ingestd.daemon")
        self.calls: list[tuple[str, Settings]] = []
        self.options: list[object] = []
        self.outcome: BaseException | int = 0

    def run(self, settings: Settings) -> int:
        return self._end("run", settings)

    def produce(self, settings: Settings, _: object) -> int:
        return self._end("produce", settings)

    def inspect(self, settings: Settings, options: object) -> int:
        self.options.append(options)
        return self._end("inspect", settings)

    def _end(self, command: str, settings: Settings) -> int:
        self.calls.append((command, settings))
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("INGESTD_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(ROOT)
    fresh_redaction(monkeypatch)


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Daemon:
    fake = Daemon()
    monkeypatch.setitem(sys.modules, "ingestd.daemon", fake)
    monkeypatch.setattr(ingestd, "daemon", fake, raising=False)
    monkeypatch.setattr(produce, "run", fake.produce)
    for command in (check, requeue, verify):
        monkeypatch.setattr(command, "run", fake.inspect)
    return fake


@pytest.mark.parametrize("argv", [["run"], ["--log-level", "info"], ["run", "--set", "grace=60s"]])
def test_run_is_the_default_command(daemon: Daemon, argv: list[str]) -> None:
    assert cli.main(argv) == 0
    assert [command for command, _ in daemon.calls] == ["run"]


def test_without_any_word_it_prints_the_help(daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert not daemon.calls
    assert "Usage: ingestd [COMMAND] [FLAGS]" in capsys.readouterr().out


def test_a_setting_in_the_environment_is_enough_to_run(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGESTD__SOURCE", "simulator")
    assert cli.main([]) == 0
    assert [settings.config.source for _, settings in daemon.calls] == ["simulator"]


def test_every_named_flag_of_run_sets_its_key(daemon: Daemon) -> None:
    argv = "--source simulator --sink s3://bucket/x --duration 5m --rate 100 --seed 3 --history 90d --log-level debug"
    assert cli.main(argv.split()) == 0
    config, origins, _ = daemon.calls[0][1]
    assert (config.source, config.sink.url, config.log.level) == ("simulator", "s3://bucket/x", "DEBUG")
    assert (config.simulator.rate, config.simulator.seed) == (Rate(100), 3)
    assert (str(config.duration), str(config.simulator.history)) == ("5m", "90d")
    assert {key: origin for key, origin in origins.items() if origin != "default"} == {
        "source": "--source",
        "sink.url": "--sink",
        "duration": "--duration",
        "simulator.rate": "--rate",
        "simulator.seed": "--seed",
        "simulator.history": "--history",
        "log.level": "--log-level",
    }


def test_produce_takes_a_topic_and_brokers(daemon: Daemon) -> None:
    argv = "produce --topic clicks --rate 0 --duration 10s --history 1d --seed 1 --bootstrap-servers a:1,b:2"
    assert cli.main(argv.split()) == 0
    command, settings = daemon.calls[0]
    assert command == "produce"
    assert settings.config.kafka.topics == ("clicks",)
    assert settings.config.kafka.bootstrap_servers == ("a:1", "b:2")


def test_the_last_flag_for_a_key_wins(daemon: Daemon) -> None:
    cli.main(["--rate", "5", "--set", "simulator.rate = 6"])
    cli.main(["--set", "simulator.rate=6", "--rate=5"])
    cli.main(["--set", "simulator.rate=6", "--rate=5", "--set", "simulator.rate=7"])
    cli.main(["--demo", "--rate=5", "--set", "simulator.rate=6", "--set", "warehouse.kind=none", "--rate=8"])
    assert [settings.config.simulator.rate for _, settings in daemon.calls] == [Rate(6), Rate(5), Rate(7), Rate(8)]
    assert daemon.calls[-1][1].config.page.enabled
    assert daemon.calls[-1][1].config.warehouse.kind == "none"


def test_the_configuration_file_is_read(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    cli.main(["--config", "config/demo.toml"])
    monkeypatch.setenv("INGESTD_CONFIG", "config/demo.toml")
    cli.main(["run"])
    assert [settings.origins["source"] for _, settings in daemon.calls] == ["config/demo.toml"] * 2


@pytest.mark.parametrize("outcome", [0, 1, 3])
def test_the_exit_code_of_the_daemon_is_the_exit_code(daemon: Daemon, outcome: int) -> None:
    daemon.outcome = outcome
    assert cli.main(["run"]) == outcome


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("no", hint="do"), 2),
        (DeadlineExceeded("no", hint="do"), 3),
        (BreakerOpen("no", hint="do"), 1),
        (SourceError("no", hint="do"), 1),
        (SinkForbidden("no", code="AccessDenied", hint="do"), 1),
    ],
)
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_an_error_of_ours_is_one_line_and_its_exit_code(
    daemon: Daemon, capsys: pytest.CaptureFixture[str], error: IngestdError, code: int, depth: int
) -> None:
    outcome: Exception = error
    for _ in range(depth):
        outcome = ExceptionGroup("unhandled errors in a TaskGroup", [outcome])
    daemon.outcome = outcome
    assert cli.main(["run"]) == code
    (line,) = capsys.readouterr().err.splitlines()
    fields = json.loads(line)
    assert (fields["level"], fields["message"]) == ("ERROR", "no (do)")
    assert "exception" not in fields


def test_an_unexpected_error_is_logged_with_its_traceback(daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    for outcome in (KeyError("x"), BaseExceptionGroup("g", [SourceError("known"), KeyError("x")])):
        daemon.outcome = outcome
        assert cli.main(["run"]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert json.loads(line)["level"] == "ERROR"
        assert "KeyError: 'x'" in json.loads(line)["exception"]


def test_an_interrupt_before_the_daemon_listens_ends_quietly(
    daemon: Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.outcome = KeyboardInterrupt()
    assert cli.main(["run"]) == 130
    assert not capsys.readouterr().err


def test_a_configured_secret_is_removed_from_the_log(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("INGESTD__KAFKA__SASL_PASSWORD", "correct-horse")
    daemon.outcome = RuntimeError("sent correct-horse")
    assert cli.main(["run"]) == 1
    assert "correct-horse" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--batch"], "ingestd: no such option '--batch' ("),
        (["confg"], "ingestd: no such command 'confg' (did you mean config?)"),
        (["nonsense"], "ingestd: no such command 'nonsense' (give one of run, collect, config, check, verify, "),
        (["snowflake", "aply"], "ingestd: no such command 'aply' (did you mean apply?)"),
        (["snowflake"], "ingestd: missing command (give one of sql, apply, status, reconcile)"),
        (["--dur", "5m"], "ingestd: no such option '--dur' (did you mean --duration?)"),
        (["--verison"], "ingestd: no such option '--verison' (did you mean --version?)"),
        (["verify", "--objects"], "ingestd: no such option '--objects' (did you mean --objects-only?)"),
        (
            ["run", "--source"],
            "ingestd: option '--source' requires an argument (give --source kafka|kinesis|sqs|simulator|collector)",
        ),
        (["run", "--demo=yes"], "ingestd: option '--demo' does not take a value (give --demo)"),
        (["run", "twice"], "ingestd: got unexpected extra argument (twice) (`ingestd run --help` lists what is accept"),
        (["--source", "kafka", "check"], "(check) (put the command first: `ingestd check ...`)"),
        (["query"], "ingestd: missing argument 'SQL' (`ingestd query --help` lists what is accepted)"),
        (["completion", "tcsh"], "'tcsh' is not one of 'bash', 'zsh', 'fish'"),
        (["requeue", "--reason", "x"], "ingestd: --reason 'x' is not accepted (give one of null_value, empty_value, "),
        (["verify", "--since", "noon"], "ingestd: --since 'noon' is not accepted (give a time such as 2026-11-23 or "),
        (["config", "--example", "x"], "ingestd: --example 'x' is not accepted (give one of full, collect, demo, pro"),
        (["--set", "batch.interval"], "ingestd: --set 'batch.interval' is not accepted (give KEY=VALUE, such as batch"),
        (["--se\x1b[31mt\n"], "ingestd: no such option '--se\\x1b[31mt\\n' ("),
        (["\udcff"], "ingestd: no such command '\\udcff' ("),
        (["--\udcff"], "ingestd: no such option '--\\udcff' ("),
        (["--source", "\udcff"], "ingestd: the value of --source is not UTF-8 text"),
        (["verify", "--since", "\udcff"], "ingestd: --since '\\udcff' is not accepted (give a time "),
        (["query", "\udcff"], "ingestd: sql '\\udcff' is not accepted (give UTF-8 text)"),
        (["run", "\udcff"], "ingestd: got unexpected extra argument ( ) ("),
        (["--set", "batch.intervall=3s"], "ingestd: unknown key batch.intervall from --set (did you mean"),
        (["--duration", "soon"], "ingestd: duration = soon from --duration is not accepted (give a duration such as"),
        (
            ["--source", "nats"],
            "ingestd: source = nats from --source is not accepted (give one of collector, kafka, "
            "kinesis, simulator, sqs)",
        ),
        (["--config", "absent.toml"], "ingestd: the configuration file absent.toml cannot be read"),
    ],
)
def test_a_usage_error_is_one_line_on_stderr_and_exit_code_2(
    daemon: Daemon, capsys: pytest.CaptureFixture[str], argv: list[str], expected: str
) -> None:
    assert cli.main(argv) == 2
    output = capsys.readouterr()
    assert len(output.err.splitlines()) == 1
    assert expected in output.err
    assert not output.out
    assert not daemon.calls


@pytest.mark.parametrize(
    "argv",
    [
        "--config config/demo.toml --set batch.records=5 check --log-level DEBUG",
        "--set=batch.records=5 --config=config/demo.toml --log-level debug check",
        "--set batch.records=4 check --set batch.records=5 --config config/demo.toml --log-level DEBUG",
    ],
)
def test_the_flags_of_every_command_may_stand_before_it(daemon: Daemon, argv: str) -> None:
    assert cli.main(argv.split()) == 0
    [(command, settings)] = daemon.calls
    assert command == "inspect"
    assert settings.config.batch.records == 5
    assert settings.config.log.level == "DEBUG"
    assert settings.origins["source"] == "config/demo.toml"


def test_they_may_stand_before_a_command_of_a_group(capsys: pytest.CaptureFixture[str]) -> None:
    arn = "arn:aws:iam::123456789012:role/reads"
    common = ["--set", "snowflake.database=ELSEWHERE", "--set", "sink.url=s3://bucket"]
    assert cli.main([*common, "snowflake", "sql", "--set", f"snowflake.aws_role_arn={arn}"]) == 0
    assert "ELSEWHERE" in capsys.readouterr().out


def test_the_flags_of_every_command_are_those_of_settings() -> None:
    assert {name for flag in SETTINGS for name in flag.opts} == COMMON_FLAGS


def test_several_errors_are_a_line_each(daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--duration", "soon", "--set", "batch.rows=1"]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("ingestd: unknown key batch.rows from --set")
    assert second.startswith("ingestd: duration = soon from --duration")


@pytest.mark.parametrize(("argv", "is_text"), [("run", False), ("check", True), ("run --set log.format=text", True)])
def test_the_log_of_a_one_shot_command_is_text_where_there_is_no_terminal(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], argv: str, is_text: bool
) -> None:
    monkeypatch.setenv("INGESTD_BATCH_INTERVAL", "3s")
    daemon.outcome = SourceError("out of luck")
    assert cli.main(argv.split()) == 1
    for line in capsys.readouterr().err.splitlines():
        assert line.startswith("{") is not is_text


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o604, 0o644])
@pytest.mark.parametrize("where", ["kafka.sasl_password_file", "configuration"])
def test_a_secret_that_every_user_can_read_is_told(
    daemon: Daemon, capsys: pytest.CaptureFixture[str], tmp_path: Path, mode: int, where: str
) -> None:
    file = tmp_path / "file"
    argv = ["check", "--set", f"{where}={file}"]
    file.write_text("secret")
    if where == "configuration":
        file.write_text('[kafka]\nsasl_password = "correct-horse"\n')
        argv = ["check", "--config", str(file)]
    file.chmod(mode)
    assert cli.main(argv) == 0
    told = f"every user of this machine can read {file}, which has kafka.sasl_password" in capsys.readouterr().err
    assert told is bool(mode & 0o004)


@pytest.mark.parametrize("argv", ["--version", "-V", "verify --version"])
def test_version(capsys: pytest.CaptureFixture[str], argv: str) -> None:
    assert cli.main(argv.split()) == 0
    assert capsys.readouterr().out.startswith(f"ingestd {ingestd.__version__} (source tree; Python 3.")


def help_of(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.main([*command.split(), "--help"]) == 0
    return capsys.readouterr().out


def test_check_takes_its_options(daemon: Daemon) -> None:
    assert cli.main(["check", "--topic", "a,b", "--sink", "s3://bucket", "--json"]) == 0
    assert cli.main(["check", "--dry-run", "--duration", "30s"]) == 0
    assert daemon.options == [check.Options(json=True), check.Options(dry_run=True)]
    assert daemon.calls[0][1].config.kafka.topics == ("a", "b")
    assert daemon.calls[1][1].config.duration == 30.0


def test_requeue_takes_its_options(daemon: Daemon) -> None:
    times = "--since 2026-11-01 --until 2026-11-01T00:00:01+00:00"
    assert cli.main(f"requeue --reason unknown_type --reason not_json {times} --to t --dry-run --json".split()) == 0
    assert cli.main(["requeue"]) == 0
    reasons = [Reason.UNKNOWN_TYPE, Reason.NOT_JSON]
    since = 1_793_491_200_000
    given = requeue.Options(since=since, until=since + 1000, reason=reasons, to="t", dry_run=True, json=True)
    assert daemon.options == [given, requeue.Options()]


@pytest.mark.parametrize("words", ["", "run", "snowflake", "snowflake apply", "completion", "help"])
def test_help_is_a_command_and_a_flag(capsys: pytest.CaptureFixture[str], words: str) -> None:
    printed = help_of(words, capsys)
    assert printed.startswith(f"Usage: ingestd {words}".rstrip())
    assert cli.main(["help", *words.split()]) == 0
    assert capsys.readouterr().out == printed
    assert cli.main([*words.split(), "-h"]) == 0
    assert capsys.readouterr().out == printed
    assert "\x1b" not in printed


def test_help_names_an_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["help", "verfy"]) == 2
    assert capsys.readouterr().err == "ingestd: no such command 'verfy' (did you mean verify?)\n"


def test_the_help_of_run_groups_its_flags(capsys: pytest.CaptureFixture[str]) -> None:
    headings = re.findall(r"^(\w+):$", help_of("run", capsys), re.MULTILINE)
    assert headings == ["Source", "Simulator", "Sink", "Daemon", "Settings", "Help", "examples"]


def every_command(group: CommandGroup, names: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        yield (*names, name)
        if isinstance(command, CommandGroup):
            yield from every_command(command, (*names, name))


@pytest.mark.parametrize("names", [*every_command(PROGRAM)], ids=" ".join)
def test_every_command_has_a_help(names: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert f"Usage: ingestd {' '.join(names)}" in help_of(" ".join(names), capsys)


def completed(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes], line: str) -> list[str]:
    """The words that bash would offer for the last word of `line`."""
    monkeypatch.setenv("_INGESTD_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
    assert cli.main(["run"]) == 0
    return [found.removeprefix("plain,") for found in capfdbinary.readouterr().out.decode().splitlines()]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("ingestd re", ["requeue"]),
        ("ingestd snowflake ", ["sql", "apply", "status", "reconcile"]),
        ("ingestd --so", ["--source"]),
        ("ingestd --set collect.sources.web.ki", ["collect.sources.web.kind="]),
        ("ingestd --source ", ["collector", "kafka", "kinesis", "simulator", "sqs"]),
        ("ingestd run --source s", ["simulator", "sqs"]),
        ("ingestd --set batch.r", ["batch.records="]),
        ("ingestd --set kafka.sasl_pa", ["kafka.sasl_password_file="]),
        ("ingestd requeue --reason too_l", ["too_large", "too_long"]),
        ("ingestd config --example ", ["full", "collect", "demo", "production", "ingestd"]),
        ("ingestd verify --config ", ["file,"]),
        ("ingestd completion z", ["zsh"]),
        ("ingestd help v", ["verify"]),
    ],
)
def test_a_shell_completes(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes], line: str, words: list[str]
) -> None:
    assert completed(monkeypatch, capfdbinary, line) == words


def test_every_command_can_be_completed(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert completed(monkeypatch, capfdbinary, "ingestd ") == list(PROGRAM.commands)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_whatever_the_configuration(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes], shell: str
) -> None:
    monkeypatch.setenv("INGESTD_CONFIG", "absent.toml")
    assert cli.main(["completion", shell]) == 0
    script = capfdbinary.readouterr().out.decode()
    assert f"_INGESTD_COMPLETE={shell}_complete" in script


def test_bash_completes_with_the_script(tmp_path: Path) -> None:
    program = tmp_path / "ingestd"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ingestd "$@"\n')
    program.chmod(0o755)
    script = (
        'eval "$(ingestd completion bash)"; COMP_WORDS=(ingestd verify --obj); COMP_CWORD=2;'
        ' _ingestd_completion ingestd; echo "${COMPREPLY[@]}"'
    )
    environ = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=environ, check=True)
    assert (done.stdout, done.stderr) == ("--objects-only\n", "")


@pytest.mark.parametrize("command", ["", "run", "config", "produce", "check", "requeue", "verify"])
def test_the_examples_in_the_help_work(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    examples = [line.split()[1:] for line in help_of(command, capsys).splitlines() if line.startswith("  ingestd ")]
    assert len(examples) >= 2
    monkeypatch.setenv("INGESTD__KAFKA__SASL_USERNAME", "me")
    monkeypatch.setenv("INGESTD__KAFKA__SASL_PASSWORD", "secret")
    for argv in examples:
        assert cli.main(argv) == 0, argv


def test_config_prints_each_value_with_its_origin(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["config", "--config", "config/demo.toml", "--duration", "5m"]) == 0
    text = capsys.readouterr().out
    assert 'duration = "5m"  # --duration\n' in text
    assert "records = 1000  # config/demo.toml\n" in text
    assert tomllib.loads(text)["source"] == "simulator"


def test_config_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["config", "--json", "--set", "batch.records=5"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["config"]["batch"]["records"] == 5
    assert document["origins"]["batch.records"] == "--set"


@pytest.mark.parametrize("argument", ["config", "--help", "--version"])
def test_a_closed_pipe_is_no_error(argument: str) -> None:
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen(
        [sys.executable, "-m", "ingestd", argument], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_config_and_help_load_no_client_library() -> None:
    lines = [["config"], ["--help"], ["help", "run"], ["plan", "--rate", "1/s"], ["snowflake", "sql", "--help"]]
    code = (
        f"import sys; from ingestd.cli.main import main; all(main(line) == 0 for line in {lines}) or sys.exit(2);"
        "sys.exit(bool({'aiokafka', 'aiobotocore', 'aiohttp', 'prometheus_client', 'rich'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=False).returncode == 0


def test_the_version_loads_no_command_and_no_configuration() -> None:
    code = (
        "import sys; from ingestd.cli.main import main; main(['--version']);"
        "sys.exit(bool({'ingestd.cli.run', 'ingestd.cli.flags', 'ingestd.config.load', 'asyncio'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=False).returncode == 0


@pytest.mark.parametrize("module", ["snowflake.connector", "another"])
def test_a_process_that_loaded_snowflakes_connector_skips_the_interpreters_end(module: str) -> None:
    """Its threads crash there, and the exit code would be -11."""
    code = (
        "import atexit, sys, types; from ingestd.__main__ import main; "
        f"sys.modules['{module}'] = types.ModuleType('{module}'); sys.argv = ['ingestd', '--version']; "
        "atexit.register(print, 'the end'); sys.exit(main())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("ingestd ")
    assert ("the end" in done.stdout) == (module == "another")
