"""Schemas for values: from a schema registry, which is asked once for each, or from a file.

The libraries that read those of Protobuf are in the extra `ingestd[registry]`: a registry may have some at any time.
"""

from pathlib import Path

from ingestd.config.model import Config
from ingestd.core.errors import ConfigError
from ingestd.core.values.base import SchemaError, ValueSource
from ingestd.core.values.decoder import FileDecoder, compile_file
from ingestd.sources.registry.client import RegistryClient
from ingestd.sources.registry.loader import RegistryValues

_MAX_FILE_BYTES = 1 << 20
_LIBRARIES = {"google": "protobuf", "proto_schema_parser": "proto-schema-parser"}


def make_values(config: Config) -> ValueSource | None:
    """What decodes values of ``kafka.value_format``; None for JSON. Reads files. Raises ``ConfigError``."""
    kafka = config.kafka
    if config.source != "kafka" or kafka.value_format == "json":
        return None
    if kafka.value_format != "avro":
        _require(kafka.value_format)
    if kafka.value_format == "registry":
        return RegistryValues(RegistryClient(config.registry), config.registry)
    if kafka.schema_file is None:
        raise ConfigError(f"kafka.schema_file is not set, but kafka.value_format = {kafka.value_format} needs it")
    try:
        with Path(kafka.schema_file).open("rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
        if len(data) > _MAX_FILE_BYTES:
            raise SchemaError("it has more than 1MiB")
        decode = compile_file(kafka.value_format, data.decode(), kafka.message)
    except (OSError, ValueError, SchemaError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        hint = f"give a readable {'.avsc' if kafka.value_format == 'avro' else '.proto'} file"
        raise ConfigError(f"kafka.schema_file = {kafka.schema_file} cannot be used: {why}", hint=hint) from error
    return FileDecoder(decode)


def _require(value_format: str) -> None:
    try:
        import google.protobuf  # noqa: F401, PLC0415  to know now whether they are there
        import proto_schema_parser  # noqa: F401, PLC0415
    except ModuleNotFoundError as error:
        library = (error.name or "").split(".")[0]
        if library not in _LIBRARIES:
            raise
        raise ConfigError(
            f"kafka.value_format = {value_format} needs {_LIBRARIES[library]}, which is not installed",
            hint="pip install 'ingestd[registry]', or in a clone of ingestd: pip install '.[registry]'",
        ) from error
