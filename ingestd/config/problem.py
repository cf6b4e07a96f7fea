"""What is wrong with a key of the configuration, and the error that says so. Pure."""

import re
from typing import NamedTuple

from ingestd.config.keys import key_of, shown, variable
from ingestd.core.errors import ConfigError


class Problem(NamedTuple):
    """A key with an unusable value: why (follows "key = value from origin"), and what to do."""

    key: str
    why: str
    remedy: str


def refusal(problem: Problem, value: object, origin: str) -> ConfigError:
    """The error for `problem`."""
    key, why, remedy = problem
    if value is None:
        return ConfigError(f"{key} {why}", hint=remedy)
    text = "<redacted>" if key_of(key).is_secret else shown(value)
    if "host" in key_of(key).accepted():  # which has no user
        text = re.sub(r"[^\s/]*@", "<redacted>@", text)
    source = {"": "", "default": " by default", "environment": f" from environment variable {variable(key)}"}
    return ConfigError(f"{key} = {text}{source.get(origin, f' from {origin}')} {why}", hint=remedy)
