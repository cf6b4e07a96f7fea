"""What may stand on the command line: commands, their flags, and the help for both."""

import argparse
import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from ingestd.config.examples import NAMES, REFERENCE
from ingestd.config.load import Flag
from ingestd.core.rejections import Reason
from ingestd.ops.build_info import read_build_info, version_line

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

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
  ingestd config --example production > production.toml
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


_PLAN_EXAMPLES = """\
examples:
  ingestd plan --rate 5000
  ingestd plan --config config/production.toml --rate 5000 --peak 4 --growth 1,10,100
  ingestd plan --rate 5000 --partitions 6 --daemon-rate 250000 --row-bytes 900 --object-bytes 160
"""

_QUERY_EXAMPLES = """\
examples:
  ingestd query "SELECT COUNT(*) FROM marketing_events
    WHERE event_timestamp >= DATEADD(minute, -5, CURRENT_TIMESTAMP())"
  ingestd query "SELECT * FROM client_scores ORDER BY propensity DESC LIMIT 10"
  ingestd query "SELECT * FROM load_history WHERE status = 'LOAD_FAILED'" --json
"""

_SNOWFLAKE_EXAMPLES = """\
examples:
  ingestd snowflake sql --config config/production.toml
  ingestd snowflake apply --config config/production.toml --dry-run
  ingestd snowflake status --config config/production.toml
  ingestd snowflake reconcile --config config/production.toml --since 2026-11-01
"""

_DEMO = {"page.enabled": "true", "page.controls": "true", "warehouse.kind": "local"}


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


class _Demo(argparse.Action):
    """Stands for the settings of `_DEMO`."""

    def __call__(
        self, _parser: argparse.ArgumentParser, namespace: argparse.Namespace, _: Any, option: str | None = None
    ) -> None:
        namespace.flags = (*namespace.flags, *(Flag(str(option), key, text) for key, text in _DEMO.items()))


def parser() -> argparse.ArgumentParser:
    main = argparse.ArgumentParser(
        prog="ingestd",
        description="Writes Kafka events as validated, compressed JSON lines to S3 or a directory, each exactly once.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    main.add_argument("--version", action="version", version=version_line(read_build_info()))
    commands = main.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    run = _command(commands, "run", "run the daemon; the command that is meant when none is given", _RUN_EXAMPLES)
    config = _command(commands, "config", "print the effective configuration and who set what", _CONFIG_EXAMPLES)
    produce = _command(commands, "produce", "write simulated events into a Kafka topic", _PRODUCE_EXAMPLES)
    verify = _command(commands, "verify", "prove that every record is in the sink exactly once", _VERIFY_EXAMPLES)
    check = _command(commands, "check", "try everything that a run needs, with its own settings", _CHECK_EXAMPLES)
    requeue = _command(commands, "requeue", "produce quarantined records again that are good by now", _REQUEUE_EXAMPLES)
    plan = _command(commands, "plan", "say what so many events take, in daemons and in money", _PLAN_EXAMPLES)
    query = _command(commands, "query", "ask the local warehouse, in Snowflake's SQL", _QUERY_EXAMPLES)
    snowflake = _command(commands, "snowflake", "set up Snowflake, and see what it has loaded", _SNOWFLAKE_EXAMPLES)
    for command in (run, config):
        _add_run_flags(command)
    for command in (run, config, produce):
        _add_simulator_flags(command)
    for command in (run, config, produce, verify, check, requeue, plan, query):
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
    _add_snowflake_commands(snowflake)
    _add_plan_flags(plan)
    query.add_argument("sql", metavar="SQL", help="one statement that reads")
    query.add_argument("--json", action="store_true", help="rows as JSON lines")
    _add(query, "--warehouse-file", "F", "warehouse.path", "the warehouse's file")
    config.add_argument("--json", action="store_true", help="as JSON rather than TOML")
    config.add_argument(
        "--example",
        nargs="?",
        const=REFERENCE,
        choices=NAMES,
        metavar="|".join(NAMES[:-1]),
        help="print a shipped configuration file instead; without a name, the one that lists every key",
    )
    _add(produce, "--topic", "T", "kafka.topics", "the topic to write to")
    _add(produce, "--bootstrap-servers", "HOST:PORT,...", "kafka.bootstrap_servers", "Kafka brokers to ask first")
    return main


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

    _add(command, "--warehouse", "none|local", "warehouse.kind", "load what lands into a table in a local file")
    command.add_argument(
        "--demo",
        action=_Demo,
        nargs=0,
        help="serve a page that shows it all, with controls, and load what lands into a local table",
    )


def _add_snowflake_commands(snowflake: argparse.ArgumentParser) -> None:
    commands = snowflake.add_subparsers(dest="action", metavar="ACTION", title="actions", required=True)
    sql = _command(commands, "sql", "print all that an administrator must run, in order", _SNOWFLAKE_EXAMPLES)
    apply = _command(commands, "apply", "run it over a connection", _SNOWFLAKE_EXAMPLES)
    status = _command(commands, "status", "say how the pipe is", _SNOWFLAKE_EXAMPLES)
    reconcile = _command(commands, "reconcile", "compare objects with what was loaded", _SNOWFLAKE_EXAMPLES)
    for command in (sql, apply, status, reconcile):
        _add(command, "--sink", "URL", "sink.url", "where objects are: s3://bucket/prefix")
        _add_common_flags(command)
    for command in (sql, apply):
        command.add_argument("--style", choices=["select", "match"], default="select", help="how the pipe copies rows")
    sql.add_argument("--out", metavar="DIR", help="write one file for each part instead of printing")
    apply.add_argument("--dry-run", action="store_true", help="show the statements, and run none")
    apply.add_argument("--notify", action="store_true", help="also point the bucket's notification to the pipe")
    for command in (status, reconcile):
        command.add_argument("--json", action="store_true", help="the report as JSON")
    status.add_argument("--watch", action="store_true", help="again and again, until Ctrl-C")
    _add_range_flags(reconcile)


def _add_plan_flags(command: argparse.ArgumentParser) -> None:
    """Their defaults are the command's own, as these are the program's knowledge."""

    def amount(option: str, metavar: str, summary: str, kind: Callable[[str], float] = _positive) -> None:
        command.add_argument(option, metavar=metavar, type=kind, help=summary, default=argparse.SUPPRESS)

    command.add_argument("--rate", metavar="N", type=_positive, required=True, help="events a second, mean of a day")
    amount("--peak", "X", "the most events a second, as so many times the mean; 3", _at_least_one)
    amount("--rejected", "SHARE", "share of events that are rejected, such as 0.001; 0", _share)
    amount("--partitions", "N", "there are so many; as many as it takes", _count)
    amount("--kept-days", "N", "days until objects expire; 400", _count)
    amount("--credit-usd", "N", "price of a Snowflake credit; 3")
    amount("--daemon-rate", "N", "events a second that a daemon of yours can take, by make bench")
    amount("--row-bytes", "N", "of a row, as `ingestd check` says")
    amount("--object-bytes", "N", "of a row in an object, compressed")
    command.add_argument(
        "--growth", metavar="X,...", type=_growth, default=argparse.SUPPRESS, help="times the load; 1,10,100,1000"
    )
    command.add_argument("--json", action="store_true", help="as JSON")


def _positive(text: str) -> float:
    return _within(text, 0, 1e12, open_=True)


def _at_least_one(text: str) -> float:
    return _within(text, 1, 1000)


def _share(text: str) -> float:
    return _within(text, 0, 0.99)


def _count(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text) <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 to 1000000")
    return int(text)


def _growth(text: str) -> tuple[float, ...]:
    found = tuple(_positive(part.strip()) for part in text.split(","))
    if len(found) > 8:
        raise argparse.ArgumentTypeError(f"{text!r} is more than 8 columns")
    return found


def _within(text: str, low: float, high: float, *, open_: bool = False) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not (low < found or (found == low and not open_)) or not found <= high:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no number {'of more than' if open_ else 'from'} {low:g} to {high:g}"
        )
    return found


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
