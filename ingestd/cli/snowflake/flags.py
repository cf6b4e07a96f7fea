"""Flags that several commands of `ingestd snowflake` share."""

from ingestd.cli.flags import CommandFlag, SettingFlag, one_of

STAGE = SettingFlag("--sink", "URL", "sink.url", "where the objects are: s3://bucket/prefix", section="Sink")
STYLE = CommandFlag(
    "--style", metavar="select|match", type=one_of(("select", "match")), section="Snowflake",
    help="how the pipe copies rows (default select)",
)  # fmt: skip
