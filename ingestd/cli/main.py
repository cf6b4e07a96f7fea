"""The command line's entry point: runs a command and turns its outcome into an exit code."""

import contextlib
import logging
import os
import re
import sys
from collections.abc import Iterator, Sequence

import click
import msgspec

from ingestd.cli.commands import PROGRAM, Invocation, parse_command_line
from ingestd.cli.completion import VARIABLE, complete
from ingestd.cli.output import discard_output
from ingestd.core.errors import EXIT_INTERRUPTED, ConfigError, ConfigErrors, DeadlineExceeded, IngestdError
from ingestd.core.formatting import clean
from ingestd.ops.stop_signals import STOP_SIGNALS

CLEAN, FAILED, USAGE, UNDELIVERED = 0, 1, 2, 3  # and those of core.errors
_DAEMONS = {"run", "produce", "collect"}  # they handle signals themselves, and log JSON where no terminal is
_PRINTING = {"-h", "--help", "-V", "--version"}

_EXTRA = re.compile(r"unexpected extra arguments? \((\S+?)[ )]")

_log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command in `argv` (the process's own by default); returns the exit code."""
    if instruction := os.environ.get(VARIABLE):
        return complete(PROGRAM, instruction)
    words = sys.argv[1:] if argv is None else argv
    try:
        if _PRINTING.intersection(words):
            STOP_SIGNALS.restore()
        asked = parse_command_line(words)
        return asked if isinstance(asked, int) else _run(asked)
    except click.UsageError as error:
        return _refuse(_explain(error))
    except ConfigError as error:
        messages = map(str, error.errors if isinstance(error, ConfigErrors) else [error])
        return _refuse(*messages, excerpt=error.excerpt)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of the help has closed it
        discard_output()
        return CLEAN


def _run(asked: Invocation) -> int:
    # Imported here: --help, --version and completion need none of it.
    from ingestd.cli.prepare import prepare  # noqa: PLC0415
    from ingestd.ops.background_output import background_output  # noqa: PLC0415

    if asked.name not in _DAEMONS:
        STOP_SIGNALS.restore()
    # Around the set-up of the log, which keeps the stream that it finds, and around the report of errors.
    with background_output() if asked.name in {"run", "collect"} else contextlib.nullcontext():
        settings = prepare(asked.config, asked.flags, is_daemon=asked.name in _DAEMONS)
        try:
            return asked.module.run(settings, msgspec.convert(asked.options, asked.module.Options))
        except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 - nobody else reports it
            return _report(error)


def _refuse(*messages: str, excerpt: Sequence[str] = ()) -> int:
    for message in messages:
        sys.stderr.write(f"ingestd: {clean(message)}\n")
    sys.stderr.writelines(f"    {clean(line)}\n" for line in excerpt)
    return USAGE


def _explain(error: click.UsageError) -> str:
    """Says in one line what is wrong and what to type instead."""
    context = error.ctx or click.Context(PROGRAM, info_name="ingestd")
    command, message = context.command, error.format_message().rstrip(".")
    hint = f"`{context.command_path} --help` lists what is accepted"
    if isinstance(command, click.Group):
        hint = f"give one of {', '.join(command.commands)}"
    if (extra := _EXTRA.search(message)) and extra[1] in PROGRAM.commands:
        hint = f"put the command first: `ingestd {extra[1]} ...`"
    match error:
        case click.NoSuchOption() | click.exceptions.NoSuchCommand():
            message = error.message.rstrip(".")
            if error.possibilities:
                hint = f"did you mean {error.possibilities[0]}?"
        case click.BadOptionUsage() | click.MissingParameter():
            flags = [flag for flag in command.get_params(context) if isinstance(flag, click.Option)]
            name = error.option_name if isinstance(error, click.BadOptionUsage) else error.param and error.param.opts[0]
            hint = next((f"give {flag.get_help_spec(context)}" for flag in flags if name in flag.opts), hint)
    return f"{message[0].lower()}{message[1:]} ({hint})"


def _report(error: BaseException) -> int:
    """Log why the command ended; returns the exit code. Known errors are one line each, others have a traceback."""
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
