"""Loads the settings of a command and sets up its log."""

import logging
import os
from collections.abc import Sequence

from msgspec.structs import replace

from ingestd.config.keys import KEYS, value_of
from ingestd.config.load import Flag, Settings, load
from ingestd.config.model import LogConfig
from ingestd.config.secrets import REDACTION, exposed_files
from ingestd.config.types import Secret
from ingestd.ops import logs

_log = logging.getLogger(__name__)

_AWS_SECRETS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


def prepare(path: str | None, flags: Sequence[Flag], *, is_daemon: bool) -> Settings:
    """Returns the settings; from now on nothing that is printed contains their secrets. Raises ConfigError."""
    settings = load(path=path, environ=os.environ, flags=flags)
    logs.setup(settings.config.log if is_daemon else one_shot(settings.config.log))
    for key in KEYS:
        value = value_of(settings.config, key)
        if isinstance(value, Secret):
            REDACTION.hide(value.reveal(), fixed=True)
    for name in _AWS_SECRETS:
        REDACTION.hide(os.environ.get(name), fixed=True)
    for warning in (*settings.warnings, *exposed_files(settings.config, settings.origins)):
        _log.warning("%s", warning)
    return settings


def one_shot(log: LogConfig) -> LogConfig:
    """The log of a command that a person waits for: text also where its output is not a terminal."""
    return replace(log, format="text") if log.format == "auto" else log
