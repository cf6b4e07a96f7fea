"""Proposes ``events.rename`` where a sample of records lacks a required field that another field resembles. Pure."""

import difflib
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from ingestd.config.effective import toml_value
from ingestd.config.model import EventsConfig
from ingestd.core.decoding import ENCODER
from ingestd.core.events import Event, Id, Model
from ingestd.core.formatting import number
from ingestd.core.records import Record
from ingestd.core.rejections import RejectedRecord, parse
from ingestd.core.renaming import Path, Renaming, faults, path_text, target_fields
from ingestd.core.values.base import ValueSource
from ingestd.preflight import CheckFinding, note, some

_CHECK = "events.rename"
_MOST_SHARE = 0.9  # of the sample, which must lack the field, and have the other
_FEWEST_OF_MANY = 10  # events, from which on a field that differs in each of them is no type
_NEAR = 0.85  # of difflib's ratio

#: What producers call a field, the likeliest first, as words of small letters.
_ALIASES = {
    "event_type": ("type", "event", "event_name", "name", "event_kind", "kind", "action", "eventtype"),
    "event_id": ("id", "message_id", "uuid", "event_uuid", "guid", "insert_id", "eventid", "messageid"),
    "client_id": (
        "user_id", "customer_id", "distinct_id", "anonymous_id", "visitor_id", "account_id", "profile_id", "uid",
        "userid", "clientid", "user", "client", "customer",
    ),
    "event_timestamp": (
        "timestamp", "ts", "event_time", "time", "occurred_at", "original_timestamp", "created_at", "sent_at",
        "event_date", "date_time", "datetime", "date", "eventtime",
    ),
}  # fmt: skip
#: Objects that are no part of the meaning of what they hold: meta.id is an id.
_ENVELOPES = {"event", "meta", "metadata", "header", "headers", "data", "payload", "context", "attributes", "message"}


class _Candidate(NamedTuple):
    """A field of the producer that may be one of the model's."""

    likeness: float
    field: str
    path: Path
    fault: str  # why its values do not fit; "" where they do


def findings(
    events: EventsConfig, model: Model, records: Sequence[Record], values: ValueSource | None
) -> Iterator[CheckFinding]:
    """What the report proposes for a sample. `values` makes JSON of values in other formats."""
    if model.any_json:
        return
    objects = [found for record in records if (found := _object(record, values, events)) is not None]
    missing = _missing(model, objects)
    chosen = _chosen(model, objects, missing)
    if fitting := {it.field: it for it in chosen if not it.fault}:
        lacking = some([f"{field} ({missing[field]} of {number(len(objects), 'record')})" for field in fitting], 4)
        alike = ", ".join(f"{path_text(it.path)} resembles {it.field}" for it in fitting.values())
        others = {path: field for path, field in events.rename.items() if field not in fitting}
        rename = others | {path_text(it.path): it.field for it in fitting.values()}
        if not any(faults(rename)):
            yield note(_CHECK, f"missing: {lacking}; {alike}", f"if they are the same, {_in_words(rename)}")
    for it in chosen:
        if it.fault:
            seen = f"{it.field} is missing in {missing[it.field]} of {number(len(objects), 'record')}; "
            seen += f"{path_text(it.path)} resembles it, but its values do not fit: {it.fault}"
            yield note(_CHECK, seen, "correct the producer, or rename another field with events.rename")


def _in_words(rename: Mapping[str, str]) -> str:
    """How to set the renames."""
    words = f"set rename = {toml_value(rename)} in [events]"
    text = ",".join(f"{path}={field}" for path, field in rename.items())
    is_plain = all(re.fullmatch(r"[^\s,=]+", path) for path in rename)  # others cannot be given as text
    return f"{words}, or give --set {shlex.quote(f'events.rename={text}')}" if is_plain else words


def _object(record: Record, values: ValueSource | None, events: EventsConfig) -> dict[str, Any] | None:
    """The event of a record as it is after the renames that are set; None if it is no JSON object."""
    try:
        value = record.value if values is None else values.decode(record)
        data = parse(value or b"")
    except RejectedRecord:
        return None
    Renaming(events.rename).apply(data)
    return data


def _missing(model: Model, objects: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """The required fields of all types that most objects do not have, and how many."""
    lacking = {field: sum(field not in it for it in objects) for field in _required(model)}
    return {field: count for field, count in lacking.items() if count and count >= _MOST_SHARE * len(objects)}


def _required(model: Model) -> dict[str, Any]:
    """Of each field that every type of the model requires, its type."""
    kinds = list(model.types.values())
    found: dict[str, Any] = {"event_type": Id}
    for field in msgspec.structs.fields(kinds[0]):
        if all(_requires(kind, field.encode_name) for kind in kinds):
            found[field.encode_name] = field.type
    return found


def _requires(kind: type[Event], name: str) -> bool:
    return any(it.encode_name == name and it.required for it in msgspec.structs.fields(kind))


def _chosen(model: Model, objects: Sequence[Mapping[str, Any]], missing: Mapping[str, int]) -> list[_Candidate]:
    """For each missing field the likeliest other, none for two; what fits before what only has the name."""
    if not missing:
        return []
    values = _values_by_path(objects, set(target_fields(model)))
    types = _required(model)
    candidates = [
        _Candidate(likeness, field, path, _fault(field, types[field], found, len(objects)))
        for path, found in values.items()
        if len(found) >= _MOST_SHARE * len(objects)
        for field in missing
        if (likeness := _likeness(field, path))
    ]
    chosen: dict[str, _Candidate] = {}
    taken: set[Path] = set()
    for it in sorted(candidates, key=lambda it: (it.fault != "", -it.likeness, it.path)):
        if it.field not in chosen and it.path not in taken:
            chosen[it.field] = it
            taken.add(it.path)
    return [chosen[field] for field in missing if field in chosen]


def _values_by_path(objects: Sequence[Mapping[str, Any]], known: set[str]) -> dict[Path, list[Any]]:
    """Texts, numbers and truths at the top level and in its objects, without fields of the model."""
    found: dict[Path, list[Any]] = {}
    for it in objects:
        for name, value in it.items():
            if name in known and name != "properties":
                continue
            inner = value.items() if isinstance(value, dict) else ()
            single: dict[Path, Any] = {(name,): value, **{(name, key): below for key, below in inner}}
            for path, one in single.items():
                if one is not None and not isinstance(one, dict | list):
                    found.setdefault(path, []).append(one)
    return found


def _likeness(field: str, path: Path) -> float:
    """From 0 to 1, how much the name at a path is like that of a field."""
    words = _words("_".join(path))
    names = {words: 1.0}
    if len(path) == 2 and path[0].lower() in {*_ENVELOPES, "properties"}:
        names[_words(path[1])] = 0.95
    best = 0.0
    for name, weight in names.items():
        if name == field:
            best = max(best, weight)
        elif name in (aliases := _ALIASES.get(field, ())):
            best = max(best, weight * (0.9 - aliases.index(name) / 100))
        elif (ratio := difflib.SequenceMatcher(None, name, field).ratio()) >= _NEAR:
            best = max(best, weight * ratio * 0.75)
    return best


def _words(name: str) -> str:
    """A name in camelCase, kebab-case or snake_case as small words with "_" between them."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|[^A-Za-z0-9]+", "_", name)
    return re.sub(r"_+", "_", parted).strip("_").lower()


def _fault(field: str, kind: Any, values: Sequence[Any], count: int) -> str:
    """Why most of the values do not fit the field; "" where they do."""
    errors = [error for value in values if (error := _error(kind, value))]
    if len(values) - len(errors) < _MOST_SHARE * count:
        return errors[0]
    different = len(set(map(str, values)))
    if field == "event_id" and different < _MOST_SHARE * len(values):
        return "they repeat"
    if field == "event_type" and len(values) >= _FEWEST_OF_MANY and different >= _MOST_SHARE * len(values):
        return "each event has another one"
    return ""


def _error(kind: Any, value: Any) -> str:
    try:
        msgspec.json.decode(ENCODER.encode(value), type=kind)
    except ValueError as error:
        return str(error)
    return ""
