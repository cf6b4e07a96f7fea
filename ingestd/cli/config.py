"""`ingestd config`: prints the effective configuration, or one of the shipped configuration files."""

import click
import msgspec

from ingestd.cli import run as run_command
from ingestd.cli.flags import JSON, CommandFlag, one_of
from ingestd.cli.output import say
from ingestd.config.effective import as_json, as_toml
from ingestd.config.examples import NAMES, REFERENCE, example
from ingestd.config.load import Settings

EXAMPLES = """\
examples:
  ingestd config
  ingestd config --config config/demo.toml --set batch.records=500
  ingestd config --json
  ingestd config --example production > production.toml
"""


def _print_example(context: click.Context, _flag: click.Parameter, name: str | None) -> None:
    """Needs no valid configuration."""
    if name is not None and not context.resilient_parsing:
        say(example(REFERENCE if name == "full" else name))
        context.exit()


FLAGS: list[click.Parameter] = [
    *run_command.FLAGS,
    JSON,
    CommandFlag(
        "--example", metavar="[full|collect|demo|production]", section="Output", is_flag=False, flag_value="full",
        type=one_of(("full", *NAMES)), is_eager=True, expose_value=False, callback=_print_example,
        help="print a shipped configuration file instead; without a name, the one that lists every key",
    ),
]  # fmt: skip


class Options(msgspec.Struct, frozen=True):
    """What the flags say."""

    json: bool = False


def run(settings: Settings, options: Options) -> int:
    """Print the configuration as TOML or JSON."""
    say(as_json(settings) if options.json else as_toml(settings))
    return 0
