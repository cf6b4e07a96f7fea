"""The command line: what to run, with which settings, and what the outcome means to a shell."""

import argparse
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import msgspec

from ingestd import __version__, logs
from ingestd.checks import KEYS, value_of
from ingestd.commands.output import say
from ingestd.config import Secret
from ingestd.errors import ConfigError, DeadlineExceeded, IngestdError
from ingestd.settings import Flag, Settings, as_json, as_toml, load
from ingestd.validate import Reason

CLEAN, FAILED, USAGE, UNDELIVERED, INTERRUPTED = 0, 1, 2, 3, 130  # and commands.PROBLEMS

T = TypeVar("T")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_AWS_SECRETS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")

_log = logging.getLogger(__name__)

_EXAMPLES = """\
examples:
  ingestd --source simulator --duration 5m
  ingestd --config config/demo.toml
  ingestd --config config/production.toml --log-level DEBUG
  ingestd run --source simulator --history 90d --sink ./history
  ingestd run --set batch.interval=60s --set batch.bytes=64MiB
  ingestd config --config config/production.toml
  ingestd produce --topic marketing_events --rate 1000 --duration 5m
  ingestd check --config config/production.toml
  ingestd verify --config config/production.toml --since 2026-11-01
  ingestd requeue --config config/production.toml --reason unknown_type --dry-run

A value comes from the last of these that has it: built-in default, configuration file, environment
(INGESTD__BATCH__INTERVAL=30s), flags. `ingestd COMMAND --help` lists a command's flags.

exit codes: 0 clean, 1 failed, 2 usage or configuration, 3 stopped at the deadline with data undelivered
(it will be read again), 4 a command that inspects has found something wrong
"""

_RUN_EXAMPLES = """\
examples:
  ingestd --source simulator --duration 5m
  ingestd run --config config/production.toml --sink s3://your-marketing-events-bucket
  ingestd run --source simulator --rate 1000 --seed 42 --sink ./data
"""

_CONFIG_EXAMPLES = """\
examples:
  ingestd config
  ingestd config --config config/demo.toml --set batch.records=500
  ingestd config --json
"""

_PRODUCE_EXAMPLES = """\
examples:
  ingestd produce --topic marketing_events --rate 600 --duration 5m
  ingestd produce --topic marketing_events --history 90d --seed 42 --bootstrap-servers 127.0.0.1:9092
"""

_VERIFY_EXAMPLES = """\
examples:
  ingestd verify --config config/production.toml
  ingestd verify --config config/production.toml --since 2026-11-01 --until 2026-11-08 --read
  ingestd verify --sink ./data --objects-only --json
"""

_CHECK_EXAMPLES = """\
examples:
  ingestd check --config config/production.toml
  ingestd check --config config/production.toml --dry-run --duration 1m
"""

_REQUEUE_EXAMPLES = """\
examples:
  ingestd requeue --config config/production.toml --dry-run
  ingestd requeue --config config/production.toml --reason unknown_type --since 2026-11-01
  ingestd requeue --config config/production.toml --to marketing_events_repaired
"""


class _Setting(argparse.Action):
    """An option that sets a key. All share one list, in the order given, so that the last of two that disagree wins."""

    def __init__(self, option_strings: Sequence[str], dest: str, *, key: str, **rest: Any) -> None:
        super().__init__(option_strings, dest, **rest)
        self._key = key

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        key, text = self._key, str(values)
        if not key:
            key, equals, text = (part.strip() for part in text.partition("="))
            if not equals:
                parser.error(f"argument {option}: {key!r} is no KEY=VALUE such as batch.interval=30s")
        namespace.flags = (*namespace.flags, Flag(str(option), key, text))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command in `argv` (the process's own by default); returns the exit code."""
    try:
        arguments = _parser().parse_args(_with_command(list(sys.argv[1:] if argv is None else argv)))
    except SystemExit as stop:
        say("")  # flushes the help that argparse wrote
        return int(stop.code or CLEAN)
    try:
        settings = load(path=arguments.config, environ=os.environ, flags=arguments.flags)
    except ConfigError as error:
        sys.stderr.write(f"ingestd: {error}\n")
        return USAGE
    if arguments.command == "config":
        say(as_json(settings) if arguments.json else as_toml(settings))
        return CLEAN
    return _run(arguments, settings)


def _with_command(argv: list[str]) -> list[str]:
    """`run` is what is meant where the first word is a flag or none."""
    if not argv or (argv[0].startswith("-") and argv[0] not in {"-h", "--help", "--version"}):
        return ["run", *argv]
    return argv


def _run(arguments: argparse.Namespace, settings: Settings) -> int:
    logs.setup(settings.config.log)
    for key in KEYS:
        value = value_of(settings.config, key)
        if isinstance(value, Secret):
            logs.REDACTION.hide(value.reveal(), fixed=True)
    for name in _AWS_SECRETS:
        logs.REDACTION.hide(os.environ.get(name), fixed=True)
    try:
        return _dispatch(arguments, settings)
    except KeyboardInterrupt:
        return INTERRUPTED
    except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 - the last one who can tell
        return _report(error)


def _dispatch(arguments: argparse.Namespace, settings: Settings) -> int:
    """Imported here, so that --help and config need no Kafka or S3 client."""
    match arguments.command:
        case "produce":
            from ingestd.commands import produce  # noqa: PLC0415

            return produce.run(settings)
        case "verify":
            from ingestd.commands import verify  # noqa: PLC0415

            return verify.run(settings, _options(verify.Options, arguments))
        case "check":
            from ingestd.commands import check  # noqa: PLC0415

            return check.run(settings, _options(check.Options, arguments))
        case "requeue":
            from ingestd.commands import requeue  # noqa: PLC0415

            return requeue.run(settings, _options(requeue.Options, arguments))
    from ingestd import daemon  # noqa: PLC0415

    return daemon.run(settings)


def _options(kind: type[T], arguments: argparse.Namespace) -> T:
    """A command's own options: what its flags are named after."""
    return msgspec.convert(arguments, kind, from_attributes=True)


def _report(error: BaseException) -> int:
    """Log why it ended, and give the exit code: one line for each error of ours, a traceback for anything else."""
    leaves = list(_leaves(error))
    known = [leaf for leaf in leaves if isinstance(leaf, IngestdError)]
    if len(known) < len(leaves):
        _log.error("an unexpected error stopped ingestd; please report it", exc_info=error)
        return FAILED
    for leaf in known:
        _log.error("%s", leaf)
    match known[0]:
        case ConfigError():
            return USAGE
        case DeadlineExceeded():
            return UNDELIVERED
        case _:
            return FAILED


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ingestd",
        description="Writes Kafka events as validated, compressed JSON lines to S3 or a directory, each exactly once.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"ingestd {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    run = _command(commands, "run", "run the daemon; the command that is meant when none is given", _RUN_EXAMPLES)
    config = _command(commands, "config", "print the effective configuration and who set what", _CONFIG_EXAMPLES)
    produce = _command(commands, "produce", "write simulated events into a Kafka topic", _PRODUCE_EXAMPLES)
    verify = _command(commands, "verify", "prove that every record is in the sink exactly once", _VERIFY_EXAMPLES)
    check = _command(commands, "check", "try everything that a run needs, with its own settings", _CHECK_EXAMPLES)
    requeue = _command(commands, "requeue", "produce quarantined records again that are good by now", _REQUEUE_EXAMPLES)
    for command in (run, config):
        _add_run_flags(command)
    for command in (run, config, produce):
        _add_simulator_flags(command)
    for command in (run, config, produce, verify, check, requeue):
        _add_common_flags(command)
    for command in (verify, check, requeue):
        _add_inspection_flags(command)
    for command in (verify, requeue):
        _add_range_flags(command)
    verify.add_argument("--read", action="store_true", help="also read every object: its rows and their sha256")
    verify.add_argument("--objects-only", action="store_true", help="ask nothing of Kafka")
    check.add_argument("--dry-run", action="store_true", help="then consume, and print what would be written")
    _add(check, "--duration", "1m", "duration", "end the dry run after this long")
    requeue.add_argument(
        "--reason",
        action="append",
        default=[],
        choices=[*Reason],
        metavar="R",
        help=f"only records that were rejected for it; may be given again: {', '.join(Reason)}",
    )
    requeue.add_argument("--to", metavar="T", help="produce to this topic rather than to the one they came from")
    requeue.add_argument("--dry-run", action="store_true", help="print what would be produced, and produce nothing")
    config.add_argument("--json", action="store_true", help="as JSON rather than TOML")
    _add(produce, "--topic", "T", "kafka.topics", "the topic to write to")
    _add(produce, "--bootstrap-servers", "HOST:PORT,...", "kafka.bootstrap_servers", "Kafka brokers to ask first")
    return parser


def _command(commands: Any, name: str, summary: str, examples: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.set_defaults(flags=())
    return command


def _add_run_flags(command: argparse.ArgumentParser) -> None:
    _add(command, "--source", "kafka|simulator", "source", "where events come from")
    _add(command, "--sink", "URL_OR_DIR", "sink.url", "where objects go: s3://bucket/prefix, or a directory")


def _add_simulator_flags(command: argparse.ArgumentParser) -> None:
    _add(command, "--duration", "5m", "duration", "stop by itself after this long")
    _add(command, "--rate", "N", "simulator.rate", "simulated events per minute; 0 is as fast as possible")
    _add(command, "--seed", "N", "simulator.seed", "same seed, same simulated events")
    _add(command, "--history", "90d", "simulator.history", "simulate this much past at full speed, not live events")


def _add_inspection_flags(command: argparse.ArgumentParser) -> None:
    _add(command, "--topic", "T,...", "kafka.topics", "the topics to look at")
    _add(command, "--sink", "URL_OR_DIR", "sink.url", "where objects are: s3://bucket/prefix, or a directory")
    command.add_argument("--json", action="store_true", help="the report as JSON")


def _add_range_flags(command: argparse.ArgumentParser) -> None:
    since, until = "only records from this time on, by Kafka's timestamp", "only records before this time"
    command.add_argument("--since", metavar="TIME", type=_milliseconds, help=since)
    command.add_argument("--until", metavar="TIME", type=_milliseconds, help=until)


def _milliseconds(text: str) -> int:
    """A day or a time as Kafka has it: milliseconds since the epoch. Without an offset it is UTC."""
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 2026-11-23 or 2026-11-23T08:00:00Z") from None
    return (when.replace(tzinfo=when.tzinfo or UTC) - _EPOCH) // timedelta(milliseconds=1)


def _add_common_flags(command: argparse.ArgumentParser) -> None:
    command.add_argument("--config", metavar="F", help="configuration file (TOML); or INGESTD_CONFIG")
    _add(command, "--set", "KEY=VALUE", "", "set any key, such as batch.interval=30s; may be given again and again")
    _add(command, "--log-level", "L", "log.level", "DEBUG, INFO, WARNING or ERROR")


def _add(command: argparse.ArgumentParser, option: str, metavar: str, key: str, summary: str) -> None:
    command.add_argument(option, metavar=metavar, action=_Setting, key=key, help=summary, default=argparse.SUPPRESS)
