"""The effective configuration as text: a TOML file with the origin of each value, or JSON. Pure."""

import re

import msgspec

from ingestd.config.keys import shown, value_of
from ingestd.config.load import Settings


def as_toml(settings: Settings) -> str:
    """The effective configuration as a TOML file: each value with its origin as a comment, secrets redacted."""
    lines: list[str] = []
    current = ""
    for key, origin in settings.origins.items():
        table, _, name = key.rpartition(".")
        if table != current:
            lines += ["", f"[{table}]"]
            current = table
        value = _text_form(value_of(settings.config, key))
        text = f"# {name} is not set" if value is None else f"{name} = {toml_value(value)}"
        lines.append(f"{text}  # {shown(origin)}")
    return "\n".join(lines) + "\n"


def as_json(settings: Settings) -> str:
    """``{"config": the effective tree, "origins": {dotted key: who set it}}``, indented, secrets redacted."""
    document = msgspec.json.encode({"config": _text_form(settings.config), "origins": settings.origins})
    return msgspec.json.format(document, indent=2).decode() + "\n"


def _text_form(value: object) -> object:
    """Plain values; durations, sizes and secrets in their text form."""
    return msgspec.to_builtins(value, enc_hook=str)


def toml_value(value: object) -> str:
    """A plain value in TOML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml_key(name)} = {toml_value(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    if isinstance(value, str):
        # JSON's string is TOML's, except for one control character that JSON does not escape.
        return msgspec.json.encode(value).decode().replace("\x7f", "\\u007f")
    return msgspec.json.encode(value).decode()


def _toml_key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else toml_value(name)
