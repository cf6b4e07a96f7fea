"""The kinds of flag, and the flags that several commands share."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import click
from click.shell_completion import CompletionItem

from ingestd.config.keys import KEYS, names_of_source, source_key
from ingestd.config.load import Flag
from ingestd.core.errors import ConfigError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class CommandFlag(click.Option):
    """A flag; the help of its command lists it in `section`. `completes` is "file" or "dir" where a path follows."""

    def __init__(self, *names: str, section: str = "Flags", completes: str = "", **rest: Any) -> None:
        if completes:
            rest["shell_complete"] = lambda _context, _flag, typed: [CompletionItem(typed, type=completes)]
        super().__init__(names, **rest)
        self.section = section


class SettingFlag(CommandFlag):
    """A flag that sets the configuration key `key`."""

    def __init__(self, name: str, metavar: str, key: str, summary: str, **rest: Any) -> None:
        self._key = key
        rest.setdefault("completes", "")
        if not rest["completes"]:
            rest["shell_complete"] = self._words
        # `multiple`, because the last of several flags that set one key wins, and not the last kind of flag.
        super().__init__(name, metavar=metavar, help=summary, multiple=True, expose_value=False, **rest)

    def settings(self, text: str) -> Iterator[Flag]:
        """Yields what the flag sets when `text` follows it. Raises ConfigError."""
        yield Flag(self.opts[0], self._key, text)

    def _words(self, _context: click.Context, _flag: click.Parameter, typed: str) -> list[str]:
        return [word for word in KEYS[self._key].choices if word.startswith(typed)]


class SetFlag(SettingFlag):
    """`--set KEY=VALUE`: sets any key."""

    def settings(self, text: str) -> Iterator[Flag]:
        key, equals, value = (part.strip() for part in text.partition("="))
        if not equals:
            raise refusal(self, key, "KEY=VALUE, such as batch.interval=30s")
        yield Flag(self.opts[0], key, value)

    def _words(self, _context: click.Context, _flag: click.Parameter, typed: str) -> list[str]:
        place = source_key(typed)  # of a source of the collector, whose name is typed
        names = names_of_source(place.name) if place is not None and place.name else []
        known = [name for name, key in KEYS.items() if not key.is_secret]
        return [f"{name}=" for name in (*known, *names) if name.startswith(typed)]


class DemoFlag(SettingFlag):
    """`--demo`: stands for several settings, and takes no value."""

    def __init__(self, name: str, summary: str, settings: dict[str, str], **rest: Any) -> None:
        super().__init__(name, "", "", summary, is_flag=True, **rest)
        self._settings = settings

    def settings(self, _text: str) -> Iterator[Flag]:
        yield from (Flag(self.opts[0], key, text) for key, text in self._settings.items())


class Accepted(click.ParamType[Any]):
    """The values that `parse` reads. Others, for which it raises ValueError, are refused with what is accepted."""

    name = "value"

    def __init__(self, parse: Callable[[str], object], accepted: str, words: Sequence[str] = ()) -> None:
        self._parse = parse
        self._accepted = accepted
        self._words = words

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> object:
        try:
            return self._parse(value)
        except ValueError:
            raise refusal(param, value, self._accepted) from None

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[Any]]:
        return [CompletionItem(word) for word in self._words if word.startswith(incomplete)]


def one_of(words: Sequence[str]) -> Accepted:
    """Accepts one of `words`."""
    known = {word: str(word) for word in words}

    def parse(text: str) -> str:
        if text not in known:
            raise ValueError(text)
        return known[text]

    return Accepted(parse, f"one of {', '.join(words)}", words)


def refusal(flag: click.Parameter | None, value: str, accepted: str) -> ConfigError:
    """An error that names the flag, its value and what it accepts."""
    name = flag.opts[0] if flag is not None else "the value"
    return ConfigError(f"{name} {value!r} is not accepted", hint=f"give {accepted}")


def check_range(since: int | None, until: int | None) -> None:
    """Raises ConfigError where the range of --since and --until is empty."""
    if since is not None and until is not None and since >= until:
        raise ConfigError("--since is not before --until", hint="give an earlier --since or a later --until")


def _milliseconds(text: str) -> int:
    """A day or a time as a Kafka timestamp: milliseconds since the epoch. Without an offset it is UTC."""
    when = datetime.fromisoformat(text)
    return (when.replace(tzinfo=when.tzinfo or UTC) - _EPOCH) // timedelta(milliseconds=1)


_TIME = Accepted(_milliseconds, "a time such as 2026-11-23 or 2026-11-23T08:00:00Z")

#: Flags of every command that reads the configuration.
SETTINGS: list[click.Parameter] = [
    CommandFlag(
        "--config", metavar="FILE", section="Settings", completes="file",
        help="configuration file (TOML); by default the one that INGESTD_CONFIG names",
    ),
    SetFlag(
        "--set", "KEY=VALUE", "", "set any key, such as batch.interval=30s; can be given several times",
        section="Settings",
    ),
    SettingFlag("--log-level", "LEVEL", "log.level", "DEBUG, INFO, WARNING or ERROR", section="Settings"),
]  # fmt: skip

#: Flags of every command that makes simulated events.
SIMULATOR: list[click.Parameter] = [
    SettingFlag(
        "--rate", "600/min", "simulator.rate", "simulated events: 10/s, 600/min; 0 is as fast as possible",
        section="Simulator",
    ),
    SettingFlag("--seed", "N", "simulator.seed", "the same seed gives the same simulated events", section="Simulator"),
    SettingFlag(
        "--history", "90d", "simulator.history", "simulate this much of the past at full speed, and no live events",
        section="Simulator",
    ),
]  # fmt: skip

#: Flags of every command that inspects a topic and its objects.
INSPECTION: list[click.Parameter] = [
    SettingFlag("--topic", "T,...", "kafka.topics", "the topics to inspect", section="Source"),
    SettingFlag(
        "--sink", "URL_OR_DIR", "sink.url", "where the objects are: s3://bucket/prefix, or a directory",
        section="Sink", completes="dir",
    ),
]  # fmt: skip

#: Flags of every command that can be limited to a range of time.
RANGE: list[click.Parameter] = [
    CommandFlag(
        "--since", metavar="TIME", type=_TIME, section="Selection",
        help="only records from this time on, by their Kafka timestamp",
    ),
    CommandFlag(
        "--until", metavar="TIME", type=_TIME, section="Selection",
        help="only records before this time, by their Kafka timestamp",
    ),
]  # fmt: skip

JSON = CommandFlag("--json", is_flag=True, section="Output", help="print JSON")
