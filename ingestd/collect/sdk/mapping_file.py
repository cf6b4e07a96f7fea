"""Reads the mapping file of a source."""

from pathlib import Path

import msgspec

from ingestd.collect.sdk.names import MappingFile
from ingestd.core.errors import ConfigError

_BYTES_MAX = 1 << 20


def read_mapping_file(source: str, path: str | None) -> MappingFile | None:
    """The mapping file at `path`, TOML with [event_types] and [fields]; None for None. Raises ``ConfigError``."""
    if path is None:
        return None
    key = f'collect.sources.{source}.mapping = "{path}"'
    try:
        with Path(path).open("rb") as file:
            text = file.read(_BYTES_MAX + 1)
        if len(text) > _BYTES_MAX:
            raise ConfigError(f"{key}: larger than 1 MiB")
        return msgspec.toml.decode(text, type=MappingFile)
    except OSError as error:
        raise ConfigError(f"{key}: {error.strerror or error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{key}: {error}", hint="[event_types] and [fields] are its tables") from error
