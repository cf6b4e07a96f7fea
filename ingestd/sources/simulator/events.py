"""Simulates the marketing events of a fictitious financial-services firm, from a seed. Pure.

The same configuration, seed and times make the same bytes. Memory does not grow with the length of a run. All times are
milliseconds since the epoch, UTC; the firm is in UTC, too.
"""

import re
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from heapq import heappop, heappush
from math import log
from random import Random
from typing import Any, NamedTuple
from zlib import crc32

import msgspec

from ingestd.config.model import SimulatorConfig
from ingestd.config.types import Seconds
from ingestd.core.errors import ConfigError
from ingestd.sources.simulator.clients import Clients, calls, clicks, interest, invests, pages

MAX_EVENTS = 2000  # made at once: bounds how long the event loop is blocked
MAX_PENDING = 20_000  # stories that continue later; with more of them, the first continues at once
_RECENT_EVENTS = 64  # candidates for duplicates
_MAX_HISTORY = Seconds(3650 * 86_400)

_SECOND_MS, _MINUTE_MS, _HOUR_MS, _DAY_MS = 1000, 60_000, 3_600_000, 86_400_000

_SITE = "https://www.example-invest.com"
_PAGES = tuple(
    (f"{_SITE}{path}", category)
    for category, paths in {
        "home": ("/", "/", "/search"),
        "product": tuple(
            f"/products/{name}"
            for name in ("savings-plan", "pension", "brokerage", "managed-portfolio", "fixed-term-deposit", "mortgage")
        ),
        "fund": tuple(
            f"/funds/{name}"
            for name in ("global-equity", "euro-bonds", "money-market", "emerging-markets", "climate", "balanced-50")
        ),
        "account": ("/account", "/account/portfolio", "/account/portfolio", "/account/orders", "/account/documents"),
        "insight": ("/insights/market-outlook", "/insights/interest-rates", "/tools/retirement-calculator"),
    }.items()
    for path in paths
)
_CAMPAIGNS = (
    ("pension", "/products/pension"),
    ("savings", "/products/savings-plan"),
    ("climate-fund", "/funds/climate"),
    ("rates", "/insights/interest-rates"),
    ("portfolio-review", "/products/managed-portfolio"),
)
_DEVICES = ("desktop", "mobile", "mobile", "desktop", "mobile", "tablet")
_REFERRERS: tuple[dict[str, Any], ...] = tuple({"referrer": name} for name in ("search", "direct", "partner", "social"))
_MAIL_CLIENTS: tuple[dict[str, Any], ...] = tuple({"mail_client": name} for name in ("outlook", "apple-mail", "gmail"))
_OTHER_OUTCOMES = ("withdrew", "appointment", "question answered", "no answer")  # besides "invested"

_VISITS_BY_HOUR = (2, 1, 1, 1, 1, 2, 4, 7, 9, 10, 10, 10, 11, 10, 9, 9, 9, 10, 12, 14, 14, 11, 7, 4)
_OPENS_BY_HOUR = (2, 1, 1, 1, 1, 2, 8, 9, 7, 5, 4, 3, 4, 3, 2, 2, 2, 3, 7, 7, 6, 4, 3, 2)
_CALLS_BY_HOUR = (0,) * 9 + (5, 7, 7, 3, 4, 6, 6, 5) + (0,) * 7  # offices are open Monday to Friday, 9 to 17
_WEEKEND = 0.6  # of a weekday's visits and opens
_MAILING_MS = 12 * _HOUR_MS  # sent at 6:00 and at 18:00
_NO_CONSENT = 7  # per cent of the clients, who get no mail
# The mean number of events of a visit, and of an opened mail with the visit that may follow.
_VISIT_EVENTS = pages(0.5)
_OPEN_EVENTS = 2.78  # clients who click more look at more pages, too


class Message(NamedTuple):
    """What a producer sends. The same key always goes to the same partition."""

    partition: int
    key: bytes
    value: bytes
    timestamp: int


class _Event(msgspec.Struct, omit_defaults=True, gc=False):
    """An event, reused for all events of one story, so that fields which stay are set once. Times are text."""

    event_id: str
    client_id: str
    event_timestamp: str
    event_type: str
    event_category: str
    page_url: str | None = None
    session_id: str | None = None
    channel: str | None = None
    device_type: str | None = None
    campaign_id: str | None = None
    duration_s: int | None = None
    consent: bool | None = None
    properties: dict[str, Any] | None = None


class _Story(msgspec.Struct, gc=False):
    """What one client does in a row: opens a mail, follows its link, looks at pages."""

    event: _Event
    key: bytes
    partition: int
    lag: int  # from an event to its arrival; the same for the whole story, which keeps its order
    landing: str  # the page that a mail links to
    interest: float


class _Mix(NamedTuple):
    """The shares of calls and of opened mails among the stories of one hour of the week; the rest are visits."""

    calls: float
    opens: float
    events: float  # relative to other hours


def _mix(hour_of_week: int) -> _Mix:
    day, hour = divmod(hour_of_week, 24)
    weekday = day < 5
    factor = 1.0 if weekday else _WEEKEND
    visits, opens = _VISITS_BY_HOUR[hour] * factor, _OPENS_BY_HOUR[hour] * factor
    calls = _CALLS_BY_HOUR[hour] if weekday else 0
    begun = visits + opens + calls
    return _Mix(calls / begun, opens / begun, visits * _VISIT_EVENTS + opens * _OPEN_EVENTS + calls)


_MIXES = tuple(_mix(hour) for hour in range(168))
_MEAN_EVENTS = sum(mix.events for mix in _MIXES) / len(_MIXES)
_PEAK = max(mix.events for mix in _MIXES) / _MEAN_EVENTS


def _hour_of_week(at: int) -> int:
    """0 is Monday, 0 to 1 o'clock; the epoch was a Thursday."""
    return (at // _HOUR_MS + 72) % 168


@lru_cache(maxsize=16)
def _minute(number: int) -> str:
    return f"{datetime.fromtimestamp(number * 60, UTC):%Y-%m-%dT%H:%M:}"


def _timestamp(at: int) -> str:
    """RFC 3339 with milliseconds."""
    minute, rest = divmod(at, _MINUTE_MS)
    return f"{_minute(minute)}{rest // _SECOND_MS:02d}.{rest % _SECOND_MS:03d}Z"


@lru_cache(maxsize=64)
def _campaign(number: int) -> tuple[str, str]:
    """The id and the landing page of a mailing."""
    name, path = _CAMPAIGNS[number % len(_CAMPAIGNS)]
    sent = datetime.fromtimestamp((number * _MAILING_MS + 6 * _HOUR_MS) / _SECOND_MS, UTC)
    return f"{sent:%Y%m%d-%H}-{name}", f"{_SITE}{path}"


def _replacing(pattern: bytes, new: bytes) -> Callable[[bytes], bytes]:
    compiled = re.compile(pattern)
    return lambda good: compiled.sub(new, good, count=1)


# The name of a fault -> how it changes the bytes of a good event.
MALFORMATIONS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "not JSON": lambda _: b"<html><body>502 Bad Gateway</body></html>",
    "truncated": lambda good: good[: len(good) // 2],
    "not an object": lambda good: b"[" + good + b"]",
    "missing field": _replacing(rb'"event_id":"[^"]*",', b""),
    "wrong type": _replacing(rb'"client_id":"[^"]*"', b'"client_id":4711'),
    "wrong type of an optional field": _replacing(rb'"event_category":"[^"]*"', b'"event_category":["web","fund"]'),
    "invalid UTF-8": _replacing(rb'"client_id":"CLIENT', b'"client_id":"CLIENT\xff'),
    "no such day": _replacing(rb'"event_timestamp":"\d+-\d+-\d+', b'"event_timestamp":"2025-02-30'),
    "year 30000": _replacing(rb'"event_timestamp":"\d+', b'"event_timestamp":"30000'),
}
_MALFORMATIONS = tuple(MALFORMATIONS.values())


def check(config: SimulatorConfig) -> None:
    """``ConfigError`` where keys contradict each other. Called once, before `config` is used."""
    faulty = config.malformed + config.late + config.duplicate
    if faulty > 1:
        raise ConfigError(
            f"simulator.malformed, simulator.late and simulator.duplicate add up to {faulty:g}",
            hint="they are shares of all events: make them add up to 1 at most",
        )
    if config.history and not config.rate:
        raise ConfigError(
            f"simulator.rate is 0 while simulator.history is {config.history}",
            hint="give the rate that the past shall have had, such as 600/min",
        )
    if config.history and config.history > _MAX_HISTORY:
        raise ConfigError(f"simulator.history is {config.history}", hint=f"make it {_MAX_HISTORY} at most")


class Simulation:
    """The stories of all clients from `start` on."""

    def __init__(self, config: SimulatorConfig, start: int) -> None:
        self._duplicate = config.duplicate
        self._malformed = config.duplicate + config.malformed
        self._faulty = config.duplicate + config.malformed + config.late
        self._partitions = config.partitions
        self._clients = Clients(config.clients)
        # The time is part of the seed, so that another run does not repeat the events of this one.
        self._random = Random(f"{config.seed} {start}")
        self._encoder = msgspec.json.Encoder(decimal_format="number")
        self._pending: list[tuple[int, int, _Story]] = []  # a heap; the number avoids comparisons of stories
        self._number = 0
        self._recent: deque[Message] = deque(maxlen=_RECENT_EVENTS)

    def events(self, count: int, start: float, end: float) -> list[Message]:
        """The next `count` events, spread over ``[start, end)``, in order of time."""
        rng, pending, encode = self._random.random, self._pending, self._encoder.encode
        faulty, recent = self._faulty, self._recent
        step = (end - start) / count if count else 0.0
        messages = []
        for i in range(count):
            now = int(start + (i + rng()) * step)
            fault = rng() if faulty else 1.0
            if fault < self._duplicate and recent:
                messages.append(recent[int(rng() * len(recent))]._replace(timestamp=now))
                continue
            if pending and (pending[0][0] <= now or len(pending) >= MAX_PENDING):
                story = heappop(pending)[2]
                self._go_on(story, now)
            else:
                story = self._begin(now)
            event = story.event
            event.event_id = self._uuid()
            event.event_timestamp = _timestamp(now - story.lag)
            if self._malformed <= fault < faulty:
                event.event_timestamp = _timestamp(now - story.lag - self._lateness(event))
            value = encode(event)
            if self._duplicate <= fault < self._malformed:
                value = _MALFORMATIONS[int(rng() * len(_MALFORMATIONS))](value)
            elif faulty:
                recent.append(Message(story.partition, story.key, value, now))
            messages.append(Message(story.partition, story.key, value, now))
        return messages

    def _begin(self, now: int) -> _Story:
        """Begin a story with its first event."""
        rng = self._random.random
        client = self._clients.draw(rng())
        key = client.encode()
        digest = crc32(key)
        traits = digest * 0x9E3779B1 >> 11  # independent of the partition, which takes the low bits
        consent = traits % 100 >= _NO_CONSENT
        device = _DEVICES[(traits // 100 if rng() < 0.8 else int(rng() * 6)) % len(_DEVICES)]
        event = _Event("", client, "", "", "", device_type=device, consent=consent)
        lag = int(rng() * 1500)
        story = _Story(event, key, digest % self._partitions, lag, "", interest(digest))
        mix = _MIXES[_hour_of_week(now - lag)]
        kind = rng()
        if kind < mix.calls * calls(story.interest):
            self._call(story, f"ADV_{traits // 600 % 60:03d}")
        elif kind >= 1.0 - mix.opens and consent:
            self._open(story, now)
        else:
            event.properties = _REFERRERS[int(rng() * len(_REFERRERS))]
            url, category = _PAGES[int(rng() * len(_PAGES))]
            self._arrive(event)
            self._view(story, now, url, category)
        return story

    def _go_on(self, story: _Story, now: int) -> None:
        """Set the next event of a story."""
        event, rng = story.event, self._random.random
        if event.event_type == "email_open":
            event.event_type = "email_click"
            event.page_url = story.landing
            self._follow(story, now + int(1000 + rng() * 3000))
        elif event.event_type == "email_click":
            event.properties = {"referrer": "email"}
            self._arrive(event)
            self._view(story, now, story.landing, "campaign")
        else:
            event.properties = None
            url, category = _PAGES[int(rng() * len(_PAGES))]
            self._view(story, now, url, category)

    def _call(self, story: _Story, advisor: str) -> None:
        event, rng = story.event, self._random.random
        invested = rng() < invests(story.interest)
        outcome = "invested" if invested else _OTHER_OUTCOMES[int(rng() * len(_OTHER_OUTCOMES))]
        event.event_type = "advisor_call"
        event.event_category = "advisor"
        event.channel = "phone"
        event.device_type = None
        event.duration_s = 20 if outcome == "no answer" else int(60 - 420 * log(1.0 - rng()))
        event.properties = {"advisor_id": advisor, "outcome": outcome}
        if outcome in ("invested", "withdrew"):
            cents = int(10_000 * 1000.0 ** rng())  # 100.00 to 100,000.00
            event.properties["amount"] = Decimal(cents).scaleb(-2)

    def _open(self, story: _Story, now: int) -> None:
        event, rng = story.event, self._random.random
        # The last mailing that was sent before the time of reading; mails are read ten hours later in the mean.
        read_after = int(-10 * _HOUR_MS * log(1.0 - rng()))
        event.campaign_id, story.landing = _campaign((now - story.lag - read_after - 6 * _HOUR_MS) // _MAILING_MS)
        event.event_type = "email_open"
        event.event_category = "email"
        event.channel = "email"
        event.properties = _MAIL_CLIENTS[int(rng() * len(_MAIL_CLIENTS))]
        if rng() < clicks(story.interest):
            self._follow(story, now + int(3000 - 30_000 * log(1.0 - rng())))

    def _arrive(self, event: _Event) -> None:
        """Begin a visit."""
        event.event_type = "web_visit"
        event.channel = "web"
        event.session_id = f"S-{self._random.getrandbits(64):016x}"

    def _view(self, story: _Story, now: int, url: str, category: str) -> None:
        event, rng = story.event, self._random.random
        event.page_url = url
        event.event_category = category
        seconds = int(3 - 27 * log(1.0 - rng()))
        event.duration_s = seconds
        if rng() * pages(story.interest) >= 1.0:
            self._follow(story, now + seconds * _SECOND_MS + int(rng() * _SECOND_MS))

    def _follow(self, story: _Story, due: int) -> None:
        self._number += 1
        heappush(self._pending, (due, self._number, story))

    def _uuid(self) -> str:
        """A random UUID in the form of version 4."""
        bits = f"{self._random.getrandbits(120):030x}"
        return f"{bits[:8]}-{bits[8:12]}-4{bits[12:15]}-a{bits[15:18]}-{bits[18:]}"

    def _lateness(self, event: _Event) -> int:
        """One hour to three days; whole weeks for a call, so that it stays in office hours."""
        rng = self._random.random
        if event.event_type == "advisor_call":
            return (1 + int(rng() * 2)) * 7 * _DAY_MS
        return int(_HOUR_MS + rng() * (3 * _DAY_MS - _HOUR_MS))


def history(config: SimulatorConfig, start: int, end: int) -> Iterator[list[Message]]:
    """The events of ``[start, end)``, at most a few thousand at once, varying by hour and weekday.

    The rate is the mean of a week.
    """
    simulation = Simulation(config, start)
    rate = config.rate / _MINUTE_MS
    step = min(float(_MINUTE_MS), MAX_EVENTS / (rate * _PEAK))
    due, steps, at = 0.0, 0, float(start)
    while at < end:
        steps += 1
        until = min(start + steps * step, float(end))
        due += (until - at) * rate * _MIXES[_hour_of_week(int(at))].events / _MEAN_EVENTS
        count = int(due)
        due -= count
        if count:
            yield simulation.events(count, at, until)
        at = until
