"""Loads the settings of a command and sets up its log."""

import os
from collections.abc import Sequence

from ingestd.config.load import Flag, Settings, load
from ingestd.config.secrets import REDACTION
from ingestd.config.types import Secret
from ingestd.config.validate import KEYS, value_of
from ingestd.ops import logs

_AWS_SECRETS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


def prepare(path: str | None, flags: Sequence[Flag]) -> Settings:
    """Returns the settings; from now on nothing that is printed contains their secrets. Raises ConfigError."""
    settings = load(path=path, environ=os.environ, flags=flags)
    logs.setup(settings.config.log)
    for key in KEYS:
        value = value_of(settings.config, key)
        if isinstance(value, Secret):
            REDACTION.hide(value.reveal(), fixed=True)
    for name in _AWS_SECRETS:
        REDACTION.hide(os.environ.get(name), fixed=True)
    return settings
