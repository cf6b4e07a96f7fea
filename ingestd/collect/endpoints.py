"""Builds the endpoints of the configured sources: by the kind of each, with its keys and routes."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from ingestd.collect import hooks, native, sdk, web
from ingestd.collect.keys import Keys
from ingestd.collect.messages import Endpoint, Route
from ingestd.config.model import CollectConfig, CollectSource
from ingestd.core.errors import ConfigError, ConfigErrors
from ingestd.core.validation import Validator

ROUTES: tuple[Route, ...] = (*web.ROUTES, *sdk.ROUTES, *hooks.ROUTES)


class Endpoints(NamedTuple):
    """Endpoints and keys by the names of their sources; sources without a key file have no keys."""

    by_source: Mapping[str, Endpoint]
    keys: Mapping[str, Keys]
    routes: Sequence[Route]


_Make = Callable[[str, CollectSource, CollectConfig, Validator, Keys | None], Endpoint]

_SIMPLE: dict[str, _Make] = {
    "native": lambda _name, _source, _config, validator, _keys: native.NativeEndpoint(validator),
    "web": lambda _name, _source, _config, validator, _keys: web.WebEndpoint(validator),
    "segment": lambda name, source, config, *_: sdk.SegmentEndpoint(name, source, config),
    "rudderstack": lambda name, source, config, *_: sdk.RudderEndpoint(name, source, config),
    "snowplow": lambda name, source, config, *_: sdk.SnowplowEndpoint(name, source, config),
}


def make_endpoints(config: CollectConfig, validator: Validator) -> Endpoints:
    """The endpoints of all sources. ConfigError where a key file or a mapping cannot be used: all such are told."""
    endpoints: dict[str, Endpoint] = {}
    keys: dict[str, Keys] = {}
    errors: list[ConfigError] = []
    for name, source in config.sources.items():
        try:
            if source.key_file is not None:
                keys[name] = Keys(source.key_file)
            endpoints[name] = _make(name, source, config, validator, keys.get(name))
        except ConfigErrors as several:
            errors += several.errors
        except ConfigError as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise ConfigErrors(errors)
    kinds = {source.kind for source in config.sources.values()}
    return Endpoints(endpoints, keys, [route for route in ROUTES if kinds.intersection(route.kinds)])


def _make(name: str, source: CollectSource, config: CollectConfig, validator: Validator, keys: Keys | None) -> Endpoint:
    make = _SIMPLE.get(source.kind)
    return make(name, source, config, validator, keys) if make else hooks.hook_endpoint(name, source, config, keys)
