"""Lists the commands and parses a command line. The file of a command is imported only when the command is named."""

import os
from collections.abc import Sequence
from importlib import import_module
from itertools import chain
from typing import Any, NamedTuple, Protocol, cast

import click

from ingestd.cli import completion
from ingestd.cli.output import say

EPILOG = """\
examples:
  ingestd --source simulator --duration 5m
  ingestd --config config/demo.toml
  ingestd --config config/production.toml --log-level DEBUG
  ingestd run --source simulator --history 90d --sink ./history
  ingestd run --set batch.interval=60s --set batch.bytes=64MiB
  ingestd config --config config/production.toml
  ingestd produce --topic marketing_events --rate 1000/min --duration 5m
  ingestd check --config config/production.toml
  ingestd verify --config config/production.toml --since 2026-11-01
  ingestd requeue --config config/production.toml --reason unknown_type --dry-run

Without a command, ingestd runs the daemon: `ingestd --source simulator` is `ingestd run --source simulator`.
Without any flag or INGESTD_ variable it prints this help.
The flags --config, --set and --log-level may stand before the command, too.
`ingestd help COMMAND` lists the flags of a command. `ingestd completion --help` says how a shell completes them.

A value comes from the last of these that has it: built-in default, configuration file, environment
(INGESTD__BATCH__INTERVAL=30s), flags.

exit codes: 0 clean, 1 failed, 2 usage or configuration, 3 stopped at the deadline with data undelivered
(it will be read again), 4 a command that inspects has found a problem, 130 interrupted by Ctrl-C
"""

COMMON_FLAGS = {"--config", "--set", "--log-level"}  # of flags.SETTINGS, which --version does not import
_DEFAULT = "run"
_SNOWFLAKE = "ingestd.cli.snowflake"


class CommandModule(Protocol):
    """What the file of a command provides."""

    FLAGS: list[click.Parameter]
    EXAMPLES: str
    Options: type[Any]

    def run(self, settings: Any, options: Any) -> int: ...


class Invocation(NamedTuple):
    """A parsed command line."""

    name: str
    module: CommandModule
    config: str | None
    flags: list[Any]  # of config.load.Flag, which --help does not need
    options: dict[str, Any]


class PlainCommand(click.Command):
    """A command; its help keeps the lines of the examples, which click would wrap."""

    def __init__(self, name: str, summary: str, **rest: Any) -> None:
        text = f"{summary[0].upper()}{summary[1:]}."
        super().__init__(name, short_help=summary, help=text, **{"options_metavar": "", **rest})

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.epilog:
            formatter.write(f"\n{self.epilog}")


class Command(PlainCommand):
    """A command that is in a file of its own. Its help groups the flags by their section."""

    def __init__(self, name: str, summary: str, package: str = "ingestd.cli") -> None:
        super().__init__(name, summary, options_metavar="[FLAGS]")
        self._module = f"{package}.{name}"

    def load(self) -> CommandModule:
        """Import the file, and take the flags and examples from it."""
        module = cast(CommandModule, import_module(self._module))
        self.params = [*module.FLAGS, _version(hidden=True)]
        self.epilog = module.EXAMPLES
        return module

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        self.load()
        return super().make_context(info_name, args, parent, **extra)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Collects the settings in the order of the command line, across different flags."""
        try:
            texts, _, order = self.make_parser(ctx).parse_args(list(args))
            given = {name: iter(values) for name, values in texts.items() if isinstance(values, list)}
            rest = super().parse_args(ctx, args)
        except click.UsageError as error:
            error.ctx = error.ctx or ctx
            raise
        if not ctx.resilient_parsing:  # else a shell completes the line
            # Flags of the kind SettingFlag; its file is not imported here, because --version does not need it.
            flags = (flag.settings(next(given[flag.name])) for flag in order if hasattr(flag, "settings"))
            ctx.obj = list(chain.from_iterable(flags))
        return rest

    def invoke(self, ctx: click.Context) -> Invocation:
        options = {name: value for name, value in ctx.params.items() if value is not None}
        name = self._module.removeprefix("ingestd.cli.")
        return Invocation(name, self.load(), options.pop("config", None), ctx.obj, options)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for flag in self.get_params(ctx):
            if isinstance(flag, click.Option) and (line := flag.get_help_record(ctx)) is not None:
                sections.setdefault(getattr(flag, "section", "Help"), []).append(line)
        for section, lines in sections.items():
            with formatter.section(section):
                formatter.write_dl(lines)


class CommandGroup(PlainCommand, click.Group):
    """Commands, listed in the order in which they are given."""

    def __init__(self, name: str, summary: str, commands: Sequence[click.Command], **rest: Any) -> None:
        super().__init__(name, summary, commands=commands, no_args_is_help=False, **rest)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


class Program(CommandGroup):
    """`ingestd` itself: runs the daemon where the first word is a flag, or there is none."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing and not any(name.startswith("INGESTD_") for name in os.environ):
            # Nobody has said what to read and where to write: defaults would try a broker on this machine for ever.
            say(f"{ctx.get_help()}\n")
            ctx.exit(2)
        args = self._command_first(args)
        own = {"-h", "--help", "-V", "--version"}
        if (args and args[0].startswith("-") and args[0] not in own) or not (args or ctx.resilient_parsing):
            args = [_DEFAULT, *args]
        return super().parse_args(ctx, args)

    def _command_first(self, args: list[str]) -> list[str]:
        """The words with the flags that every command takes behind the command: `--config FILE check`."""
        end = 0
        while end < len(args) and args[end].partition("=")[0] in COMMON_FLAGS:
            end += 1 if "=" in args[end] else 2
        flags, rest = args[:end], args[end:]
        if not flags or not rest or rest[0] not in self.commands:
            return args
        depth = 2 if isinstance(self.commands[rest[0]], click.Group) else 1
        return [*rest[:depth], *flags, *rest[depth:]]

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[click.shell_completion.CompletionItem[Any]]:
        found = super().shell_complete(ctx, incomplete)
        if incomplete.startswith("-"):
            run = self.commands[_DEFAULT]
            context = run.make_context(_DEFAULT, [], parent=ctx, resilient_parsing=True)
            found += run.shell_complete(context, incomplete)
        return list({item.value: item for item in found}.values())


def parse_command_line(words: Sequence[str]) -> Invocation | int:
    """Returns the command to run, or an exit code where nothing is left to do, as after --help.

    Raises click.UsageError and ConfigError.
    """
    try:
        with PROGRAM.make_context("ingestd", list(words)) as context:
            return cast(Invocation | int, PROGRAM.invoke(context))
    except click.exceptions.Exit as end:
        return end.exit_code


def _version(*, hidden: bool = False) -> click.Option:
    def show(context: click.Context, _flag: click.Parameter, asked: bool) -> None:
        if asked and not context.resilient_parsing:
            from ingestd.ops.build_info import read_build_info, version_line  # noqa: PLC0415  for this flag only

            say(f"{version_line(read_build_info())}\n")
            context.exit()

    return click.Option(
        ["-V", "--version"], is_flag=True, is_eager=True, expose_value=False, callback=show, hidden=hidden,
        help="Show the version and exit.",
    )  # fmt: skip


def _help(words: Sequence[str]) -> Invocation | int:
    return parse_command_line([*words, "--help"])


def _complete_help(_context: click.Context, _argument: click.Parameter, typed: str) -> list[str]:
    return [name for name in PROGRAM.commands if name.startswith(typed)]


PROGRAM = Program(
    "ingestd",
    "write Kafka events as validated, compressed JSON lines to S3 or a directory, each exactly once",
    [
        Command("run", "run the daemon; this is the default command"),
        Command("collect", "take events over HTTP into a Kafka topic"),
        Command("config", "print the effective configuration and the origin of each value"),
        Command("check", "try everything that a run needs, with the settings of the run"),
        Command("verify", "prove that every record is in the sink exactly once"),
        Command("requeue", "produce quarantined records again that are valid by now"),
        Command("produce", "write simulated events into a Kafka topic"),
        Command("plan", "estimate the daemons, storage and money that a load needs"),
        Command("query", "query the local warehouse in Snowflake's SQL"),
        CommandGroup(
            "snowflake",
            "set up Snowflake, and check what it has loaded",
            [
                Command("sql", "print all statements that an administrator must run, in order", _SNOWFLAKE),
                Command("apply", "run the statements of `ingestd snowflake sql` over a connection", _SNOWFLAKE),
                Command("status", "print the state of the pipe", _SNOWFLAKE),
                Command("reconcile", "compare the objects with what was loaded", _SNOWFLAKE),
            ],
            subcommand_metavar="COMMAND [FLAGS]",
        ),
        PlainCommand(
            "completion", "print the script that completes commands, flags and values in a shell",
            params=completion.FLAGS, callback=completion.run, epilog=completion.EXAMPLES,
        ),
        PlainCommand(
            "help", "show the help of a command", callback=_help,
            params=[click.Argument(["words"], nargs=-1, metavar="[COMMAND]", shell_complete=_complete_help)],
        ),
    ],
    params=[_version()],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    subcommand_metavar="[COMMAND] [FLAGS]",
    epilog=EPILOG,
)  # fmt: skip
