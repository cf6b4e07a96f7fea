"""Where the columns of an event are in a sender's message, and its names for our types of events. Pure.

The tables of each SDK are data: docs/collect/mapping.md is made of them. A source's mapping file adds to them.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from ingestd.collect.mapping import COLUMNS
from ingestd.core.errors import ConfigError
from ingestd.core.events import load_model

#: Names of events that mean one of our types, in lower case.
EVENT_TYPES: Mapping[str, str] = {
    "page viewed": "web_visit",
    "viewed page": "web_visit",
    "screen viewed": "web_visit",
    "screen_view": "web_visit",
    "email opened": "email_open",
    "email link clicked": "email_click",
    "email clicked": "email_click",
    "advisor call": "advisor_call",
    "advisor call completed": "advisor_call",
    "call completed": "advisor_call",
}
#: What SDKs call the place where an event happened, as a channel. Servers and televisions are no channel of ours.
CHANNELS: Mapping[str, str] = {"web": "web", "browser": "web", "mobile": "mobile", "mob": "mobile"}

_PATH_MAX = 10  # steps
#: Of e-mails and calls the type tells the channel, wherever the program runs that tells of them.
_OWN_CHANNEL = frozenset(
    tag for tag, kind in load_model(None).types.items() if kind.default_channel not in (None, "web")
)


class MappingFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A source's mapping file: its names of events, and paths of columns in its messages."""

    event_types: dict[str, str] = {}
    fields: dict[str, str | list[str]] = {}


class Names(msgspec.Struct, frozen=True):
    """A table of one SDK with what a mapping file adds."""

    paths: tuple[tuple[str, tuple[tuple[str, ...], ...]], ...]  # of each column, in the order in which they are tried
    client_id: tuple[tuple[str, ...], ...]
    event_types: Mapping[str, str]

    def event_type(self, name: str) -> str:
        """Our type for a sender's name of an event: the name itself where no table has it."""
        return self.event_types.get(name) or EVENT_TYPES.get(name.lower()) or name

    def columns(self, message: dict[str, Any]) -> dict[str, Any]:
        """Of each column the first value in `message` that fits it; all of them stay where they are, too."""
        found: dict[str, Any] = {}
        for column, paths in self.paths:
            fit = COLUMNS[column]
            for path in paths:
                value: Any = message
                for step in path:
                    value = value.get(step) if type(value) is dict else None
                if value is not None and value != "" and fit(value) is not None:
                    found[column] = value
                    break
        return found

    def find_client(self, message: dict[str, Any]) -> tuple[str, ...] | None:
        """The path of the first id of the client in `message`."""
        for path in self.client_id:
            value: Any = message
            for step in path:
                value = value.get(step) if type(value) is dict else None
            if value is not None and value != "":
                return path
        return None


def channel_of(platform: object, event_type: str) -> str | None:
    """The channel of an event, by the platform that an SDK names; None where it tells none."""
    if type(platform) is not str or event_type in _OWN_CHANNEL:
        return None
    return CHANNELS.get(platform)


def make_names(table: Mapping[str, tuple[str, ...]], added: MappingFile | None = None) -> Names:
    """The names of one SDK. Paths of a mapping file are tried first. Raises ``ConfigError``."""
    added = added or MappingFile()
    for column in added.fields:
        if column != "client_id" and column not in COLUMNS:
            known = ", ".join(("client_id", *COLUMNS))
            raise ConfigError(f'[fields] has "{column}", which is no column', hint=f"columns: {known}")
    for name, kind in added.event_types.items():
        if not (0 < len(kind) <= 256 and name):
            raise ConfigError(f'[event_types] "{name[:60]}": an event_type has 1 to 256 characters')

    def paths_of(column: str) -> tuple[tuple[str, ...], ...]:
        first = added.fields.get(column, [])
        return tuple(_path(text) for text in ([first] if isinstance(first, str) else first)) + tuple(
            _path(text) for text in table.get(column, ())
        )

    paths = tuple((column, paths_of(column)) for column in COLUMNS)
    return Names(tuple((column, found) for column, found in paths if found), paths_of("client_id"), added.event_types)


def _path(text: str) -> tuple[str, ...]:
    steps = tuple(text.removeprefix("$.").split("."))
    if not all(steps) or len(steps) > _PATH_MAX:
        raise ConfigError(
            f'[fields] has "{text[:60]}"', hint='a path is like "properties.campaign" or "context.page.url"'
        )
    return steps
