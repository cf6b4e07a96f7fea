"""The command line: what to run, with which settings, and what the outcome means to a shell."""

import argparse
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any

import msgspec

from ingestd.cli.flags import parser
from ingestd.cli.output import say
from ingestd.config.examples import example
from ingestd.config.load import Settings, as_json, as_toml, load
from ingestd.config.model import Secret
from ingestd.config.secrets import REDACTION
from ingestd.config.validate import KEYS, value_of
from ingestd.core.errors import ConfigError, DeadlineExceeded, IngestdError
from ingestd.ops import logs
from ingestd.ops.background_output import background_output

CLEAN, FAILED, USAGE, UNDELIVERED, INTERRUPTED = 0, 1, 2, 3, 130  # and errors.EXIT_PROBLEMS

_AWS_SECRETS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")

_log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command in `argv` (the process's own by default); returns the exit code."""
    try:
        arguments = parser().parse_args(_with_command(list(sys.argv[1:] if argv is None else argv)))
    except SystemExit as stop:
        say("")  # flushes the help that argparse wrote
        return int(stop.code or CLEAN)
    if arguments.command == "config" and arguments.example is not None:
        say(example(arguments.example))
        return CLEAN
    try:
        settings = load(path=arguments.config, environ=os.environ, flags=arguments.flags)
    except ConfigError as error:
        sys.stderr.write(f"ingestd: {error}\n")
        return USAGE
    if arguments.command == "config":
        say(as_json(settings) if arguments.json else as_toml(settings))
        return CLEAN
    if arguments.command == "run":
        with background_output():  # around the report of its errors too
            return _run(arguments, settings)
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
            REDACTION.hide(value.reveal(), fixed=True)
    for name in _AWS_SECRETS:
        REDACTION.hide(os.environ.get(name), fixed=True)
    try:
        return _dispatch(arguments, settings)
    except KeyboardInterrupt:
        return INTERRUPTED
    except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 - the last one who can tell
        return _report(error)


def _dispatch(arguments: argparse.Namespace, settings: Settings) -> int:
    """Imported here, so that --help and config need no Kafka or S3 client."""
    if arguments.command == "run":
        from ingestd import daemon  # noqa: PLC0415

        return daemon.run(settings)
    action = getattr(arguments, "action", None)
    name = f"{arguments.command}.{action}" if action else arguments.command
    command: Any = import_module(f"ingestd.cli.{name}")
    # A command's own options are what its flags are named after.
    code: int = command.run(settings, msgspec.convert(arguments, command.Options, from_attributes=True))
    return code


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
