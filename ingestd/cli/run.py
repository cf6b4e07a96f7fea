"""`ingestd run`: runs the daemon."""

import click
import msgspec

from ingestd.cli.flags import SETTINGS, SIMULATOR, DemoFlag, SettingFlag
from ingestd.config.load import Settings

EXAMPLES = """\
examples:
  ingestd --source simulator --duration 5m
  ingestd run --config config/production.toml --sink s3://your-marketing-events-bucket
  ingestd run --source collector --set collect.sources.web.kind=web --sink ./data
  ingestd run --source simulator --rate 1000/min --seed 42 --sink ./data
"""

FLAGS: list[click.Parameter] = [
    SettingFlag(
        "--source", "kafka|kinesis|sqs|simulator|collector", "source", "where events come from", section="Source"
    ),
    SettingFlag("--port", "PORT", "collect.port", "port to take events on, with --source collector", section="Source"),
    *SIMULATOR,
    SettingFlag(
        "--sink", "URL_OR_DIR", "sink.url", "where objects go: s3://bucket/prefix, or a directory",
        section="Sink", completes="dir",
    ),
    SettingFlag(
        "--warehouse", "none|local", "warehouse.kind", "load written objects into a table in a local file",
        section="Sink",
    ),
    SettingFlag("--duration", "5m", "duration", "stop after this long", section="Daemon"),
    DemoFlag(
        "--demo",
        "serve a page that shows the daemon at work, with controls, and load written objects into a local table",
        {"page.enabled": "true", "page.controls": "true", "page.shop": "true", "warehouse.kind": "local"},
        section="Daemon",
    ),
    SettingFlag(
        "--host", "ADDRESS", "health.host", "where page and metrics listen; with 0.0.0.0 phones can open the shop",
        section="Daemon",
    ),
    *SETTINGS,
]  # fmt: skip


class Options(msgspec.Struct, frozen=True):
    """Everything is a setting."""


def run(settings: Settings, _: Options) -> int:
    """Run until the daemon stops; returns its exit code."""
    from ingestd import daemon  # noqa: PLC0415  slow to import

    return daemon.run(settings)
