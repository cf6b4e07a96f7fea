"""The table of routes: from a path to those who may have sent, from a request's key to its source. Pure."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol
from urllib.parse import parse_qsl

from ingestd.collect.messages import RefusedError, Route
from ingestd.config.model import CollectSource

MAX_PARAMETERS = 200  # of a query

_SOURCE = "source"
_PARAMETER = re.compile(r"\{(\w+)\}")


class Matcher(Protocol):
    """Knows the keys of a source."""

    def matches(self, text: str) -> bool: ...


class Found(NamedTuple):
    """The source that a request comes from, and the route by which that was found."""

    name: str
    route: Route


class Place(NamedTuple):
    """What is at a path: routes by method, and the source that the path names, or another parameter of the path."""

    by_method: Mapping[str, Sequence[Route]]
    named: str | None
    parameters: Mapping[str, str] = {}

    @property
    def methods(self) -> list[str]:
        return sorted(self.by_method)

    @property
    def is_cross_origin(self) -> bool:
        return any(route.cross_origin for routes in self.by_method.values() for route in routes)


class Routes:
    """All routes of the configured sources."""

    def __init__(
        self, routes: Iterable[Route], sources: Mapping[str, CollectSource], keys: Mapping[str, Matcher]
    ) -> None:
        self._sources = sources
        self._keys = keys
        self._exact: dict[str, dict[str, list[Route]]] = {}
        self._patterns: dict[str, dict[str, list[Route]]] = {}
        for route in routes:
            table = self._patterns if _PARAMETER.search(route.path) else self._exact
            table.setdefault(route.path, {}).setdefault(route.method, []).append(route)
        self._compiled = [(_compile(path), by_method) for path, by_method in self._patterns.items()]

    def place(self, path: str) -> Place | None:
        """What is at `path`. None where nothing is."""
        if by_method := self._exact.get(path):
            return Place(by_method, None)
        for pattern, methods in self._compiled:
            if match := pattern.fullmatch(path):
                parameters = match.groupdict()
                if _SOURCE not in parameters:
                    return Place(methods, None, parameters)
                source = self._sources.get(match[1])
                kinds = {kind for routes in methods.values() for route in routes for kind in route.kinds}
                if source is not None and source.kind in kinds:
                    return Place(methods, match[1])
        return None

    def sources_at(self, place: Place) -> set[str]:
        """The names of all sources that may send to a place."""
        kinds = {kind for routes in place.by_method.values() for route in routes for kind in route.kinds}
        return {name for name, source in self._sources.items() if source.kind in kinds}

    def find(
        self,
        routes: Sequence[Route],
        named: str | None,
        headers: Mapping[str, str],
        query: Mapping[str, str],
        body: bytes,
    ) -> Found | None:
        """The source of a request. None where it has no key yet: the body may have it. RefusedError for a wrong one."""
        if named is not None:
            kind = self._sources[named].kind
            return next((Found(named, route) for route in routes if kind in route.kinds), None)
        has_key = False
        for route in routes:
            key = _key(route, headers, query, body)
            if key is None:
                continue
            has_key = True
            if name := self._source_of(key, route):
                return Found(name, route)
        if has_key:
            raise unauthorized("no source has this key")
        return None

    def _source_of(self, key: str, route: Route) -> str | None:
        found = None
        for name, source in self._sources.items():
            if source.kind not in route.kinds:
                continue
            keys = self._keys.get(name)
            # Without a key file the source's name is its key: those in web pages are no secret either.
            if (keys.matches(key) if keys is not None else key == name) and found is None:
                found = name  # no early end: its time would tell which source a key belongs to
        return found


def unauthorized(message: str) -> RefusedError:
    # Not Basic: browsers would ask the visitor for a password.
    return RefusedError(401, "unauthorized", message, {"WWW-Authenticate": 'Bearer realm="ingestd"'})


def parse_query(text: str) -> dict[str, str]:
    """The parameters of a query; of duplicates, the first. Raises RefusedError."""
    if not text:
        return {}
    try:
        pairs = parse_qsl(text, keep_blank_values=True, errors="replace", max_num_fields=MAX_PARAMETERS)
    except ValueError:
        raise RefusedError(400, "malformed", f"the query has more than {MAX_PARAMETERS} parameters") from None
    query: dict[str, str] = {}
    for name, value in pairs:
        query.setdefault(name, value)
    return query


def _key(route: Route, headers: Mapping[str, str], query: Mapping[str, str], body: bytes) -> str | None:
    if route.find_key is None:
        return None
    try:
        return route.find_key(headers, query, body)
    except Exception:  # noqa: BLE001 - a body that nothing expects has no key
        return None


def _compile(path: str) -> re.Pattern[str]:
    before, name, after = _PARAMETER.split(path)
    return re.compile(f"{re.escape(before)}(?P<{name}>[^/]+){re.escape(after)}")
