"""Rules between the keys of the collector. Pure."""

from collections import Counter
from collections.abc import Iterator
from ipaddress import ip_network

from ingestd.config.keys import SOURCES, variable
from ingestd.config.model import CollectConfig, CollectSource
from ingestd.config.problem import Problem
from ingestd.config.types import Size
from ingestd.core.sink_url import path_fault

MAX_SOURCES = 100  # each is a label of metrics

#: Web pages of other origins send to these.
BROWSER_KINDS = frozenset({"native", "segment", "rudderstack", "snowplow", "web"})
#: Their requests are proven by a key.
KEYED_KINDS = frozenset({"segment", "rudderstack", "sendgrid", "mailgun", "postmark", "mandrill", "hubspot", "webhook"})
#: Their signature covers the URL that the sender knows.
URL_KINDS = frozenset({"mandrill", "hubspot"})


def collect_problems(collect: CollectConfig) -> Iterator[Problem]:
    """What does not go together in ``[collect]``, whether or not the collector runs."""
    if collect.journal is not None and (why := path_fault(collect.journal)):
        yield Problem("collect.journal", why, "give the path of a file")
    if collect.body_memory < 2 * collect.max_body:
        limit = Size(2 * collect.max_body)
        yield Problem(
            "collect.body_memory", f"is less than twice collect.max_body = {collect.max_body}", f"give {limit} or more"
        )
    for network in collect.trusted_proxies:
        if why := _network_fault(network):
            yield Problem("collect.trusted_proxies", f"has {network}: {why}", "give networks such as 10.0.0.0/8")
    yield from _origins("collect.origins", collect.origins)
    if len(collect.sources) > MAX_SOURCES:
        yield Problem(SOURCES, f"has {len(collect.sources)} tables", f"give at most {MAX_SOURCES}")
    for name, source in collect.sources.items():
        yield from _source(f"{SOURCES}.{name}", source, collect)


def running_collector_problems(collect: CollectConfig, user: str) -> Iterator[Problem]:
    """What is missing for a collector that runs; `user` is what needs it."""
    if not collect.sources:
        example = variable(f"{SOURCES}.web.kind")
        yield Problem(
            SOURCES, f"has no table, but {user} needs at least one",
            f'add [{SOURCES}.web] with kind = "web", or set {example}=web',
        )  # fmt: skip


def _source(table: str, source: CollectSource, collect: CollectConfig) -> Iterator[Problem]:
    kind = source.kind
    needs: dict[str, bool] = {
        "key_file": kind in KEYED_KINDS and not source.key_file,
        "topic_arns": kind == "ses" and not source.topic_arns,
        "mapping": kind == "webhook" and not source.mapping,
    }
    for key, missing in needs.items():
        if missing:
            yield _missing(f"{table}.{key}", f"{table}.kind = {kind}")
    if kind == "salesforce" and not source.organization_id and not source.key_file:
        yield Problem(
            f"{table}.organization_id",
            f"is not set, but {table}.kind = salesforce needs it or {table}.key_file: its messages are not signed",
            f"set {table}.organization_id, {table}.key_file, or both",
        )
    if kind in URL_KINDS and collect.public_url is None:
        yield _missing("collect.public_url", f"{table}.kind = {kind}: its signature covers the URL")
    foreign: dict[str, tuple[object, bool]] = {
        "topic_arns": (source.topic_arns, kind == "ses"),
        "organization_id": (source.organization_id, kind == "salesforce"),
        "origins": (source.origins, kind in BROWSER_KINDS),
    }
    for key, (value, used) in foreign.items():
        if value and not used:
            yield Problem(f"{table}.{key}", f"is not used by {table}.kind = {kind}", f"unset {table}.{key}")
    yield from _origins(f"{table}.origins", source.origins)
    for key, path in {"key_file": source.key_file, "mapping": source.mapping}.items():
        if path is not None and (why := path_fault(path)):
            yield Problem(f"{table}.{key}", why, "give the path of a file")


def _missing(key: str, user: str) -> Problem:
    return Problem(key, f"is not set, but {user} needs it", f"set {key} or {variable(key)}")


def _origins(key: str, origins: tuple[str, ...]) -> Iterator[Problem]:
    if twice := [origin for origin, count in Counter(origins).items() if count > 1]:
        yield Problem(key, f"names {twice[0]} more than once", "name each origin once")
    for origin in origins:
        port = origin.rpartition(":")[2]
        if port.isdigit() and not 1 <= int(port) <= 65535:
            yield Problem(key, f"has an invalid port in {origin}", "give a port from 1 to 65535")


def _network_fault(text: str) -> str:
    try:
        ip_network(text)
    except ValueError as error:
        return str(error).removeprefix(f"{text!r} ")
    return ""
