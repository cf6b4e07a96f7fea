"""`ingestd snowflake sql`: prints the statements that administrators of Snowflake and AWS must run, or writes files."""

from pathlib import Path

import click
import msgspec

from ingestd.cli.flags import SETTINGS, CommandFlag
from ingestd.cli.output import say, say_line
from ingestd.cli.snowflake.flags import STAGE, STYLE
from ingestd.config.load import Settings
from ingestd.core.errors import ConfigError
from ingestd.core.events import load_model
from ingestd.snowflake.pipe import Style
from ingestd.snowflake.sql import setup
from ingestd.snowflake.statements import script, single_script, text

EXAMPLES = """\
examples:
  ingestd snowflake sql --config config/production.toml
  ingestd snowflake sql --sink s3://your-marketing-events-bucket --out ./snowflake
"""

FLAGS: list[click.Parameter] = [
    STAGE,
    STYLE,
    CommandFlag(
        "--out",
        metavar="DIR",
        section="Output",
        completes="dir",
        help="write one file for each part",
    ),
    *SETTINGS,
]


class Options(msgspec.Struct, frozen=True):
    """What the flags say."""

    style: Style = "select"
    out: str | None = None


def run(settings: Settings, options: Options) -> int:
    """Print one script, or write a file for each part into ``out``."""
    parts = setup(settings.config, load_model(settings.config.events.model), options.style)
    if options.out is None:
        say(single_script(parts))
        return 0
    files = {part.file: script(part) for part in parts}
    files |= {document.file: text(document) for part in parts for document in part.documents}
    folder = Path(options.out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_text(content)
            say_line("wrote", str(folder / name))
    except OSError as error:
        raise ConfigError(
            f"--out {options.out} cannot be written: {error.strerror}", hint="choose a directory"
        ) from None
    return 0
