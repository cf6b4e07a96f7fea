"""The event model, and what a user's own model may be."""

import sys
import types
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, TypedDict

import msgspec
import pytest
from msgspec import Meta

from ingestd.core.errors import ConfigError
from ingestd.core.events import (
    AdvisorCall,
    EmailClick,
    EmailOpen,
    Event,
    GenericEvent,
    OriginText,
    WebVisit,
    load_model,
    make_model,
)


class CardPayment(Event, tag="card_payment"):
    amount: Decimal
    booked_at: datetime | None = None
    currency: Annotated[str, Meta(min_length=3, max_length=3)] | None = None


class Refund(Event, tag="refund"):
    amount: Decimal


class Colour(Enum):
    RED = "red"


@pytest.fixture
def module() -> Iterator[types.ModuleType]:
    """An importable module of a user's."""
    found = types.ModuleType("users_events")
    sys.modules[found.__name__] = found
    yield found
    del sys.modules[found.__name__]


def test_own_model_knows_the_four_marketing_events() -> None:
    kinds: dict[str, type[Event]] = {
        "web_visit": WebVisit, "email_open": EmailOpen, "email_click": EmailClick, "advisor_call": AdvisorCall
    }  # fmt: skip
    assert load_model(None).types == kinds


def test_own_model_leaves_nothing_to_check_but_time_and_properties() -> None:
    model = load_model(None)
    assert set(model.timestamps) == set(model.unbounded) == {*model.types.values(), GenericEvent}
    assert not any((*model.timestamps.values(), *model.unbounded.values()))


def test_every_own_type_has_defaults_for_category_and_channel() -> None:
    for kind in load_model(None).types.values():
        assert kind.default_category
        assert kind.default_channel


def test_row_begins_with_the_type_and_keeps_the_order_of_fields() -> None:
    row = msgspec.json.encode(WebVisit(event_id="e", client_id="c", event_timestamp=datetime(2026, 1, 1)))  # noqa: DTZ001
    assert list(msgspec.json.decode(row)) == ["event_type", "event_id", "client_id", "event_timestamp"]


def test_loads_one_type_of_a_users(module: types.ModuleType) -> None:
    module.CardPayment = CardPayment  # type: ignore[attr-defined]
    assert load_model("users_events:CardPayment").types == {"card_payment": CardPayment}


def test_loads_a_union_of_a_users(module: types.ModuleType) -> None:
    module.Payments = CardPayment | Refund  # type: ignore[attr-defined]
    assert load_model("users_events:Payments").types == {"card_payment": CardPayment, "refund": Refund}


def test_loads_a_name_within_a_class(module: types.ModuleType) -> None:
    module.models = types.SimpleNamespace(payment=CardPayment)  # type: ignore[attr-defined]
    assert load_model("users_events:models.payment").types == {"card_payment": CardPayment}


def test_finds_the_fields_that_validation_must_look_at() -> None:
    class Wide(Event, tag="wide"):
        at: datetime | None = None
        titled: Annotated[datetime, Meta(title="t")] | None = None
        amount: Decimal | None = None
        count: int | None = None
        percent: Annotated[int, Meta(ge=0, le=100)] | None = None
        anything: Any = None
        lines: list[str] | None = None
        colour: Colour | None = None
        share: float | None = None

    model = make_model(Wide)
    assert model.timestamps[Wide] == ("at", "titled")
    assert model.unbounded[Wide] == ("amount", "count", "anything", "lines")


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("users_events", 'events.model = "users_events": expected module:Name'),
        ("users_events:", "expected module:Name"),
        (":Payment", "expected module:Name"),
        ("no_such_module_at_all:Payment", "no module no_such_module_at_all"),
        ("users_events:Payment", "module users_events has no Payment"),
        ("users_events:text", "text is not a msgspec.Struct"),
        ("users_events:Plain", "Plain does not inherit from ingestd.events.Event"),
        ("users_events:Event", "Event has no tag"),
        ("users_events:GenericEvent", "GenericEvent has no tag"),
    ],
)
def test_names_what_cannot_be_loaded(module: types.ModuleType, path: str, complaint: str) -> None:
    class Plain(msgspec.Struct):
        pass

    vars(module).update(text="text", Plain=Plain, Event=Event, GenericEvent=GenericEvent)
    with pytest.raises(ConfigError) as caught:
        load_model(path)
    assert complaint in str(caught.value)


def test_reports_a_module_that_fails_to_import(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_events.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match="importing broken_events failed: ZeroDivisionError"):
        load_model("broken_events:Payment")


class Keyed(TypedDict):
    a: int


class Open(msgspec.Struct):
    a: int


class Closed(msgspec.Struct, forbid_unknown_fields=True):
    a: int
    inner: "Closed | None" = None


def bad_models() -> dict[str, tuple[object, ...]]:
    class Untagged(Event):
        pass

    class Numbered(Event, tag=7):
        pass

    class Elsewhere(Event, tag_field="kind", tag="elsewhere"):
        pass

    class Frozen(Event, tag="frozen", frozen=True):  # type: ignore[misc]
        pass

    class Arrayed(Event, tag="arrayed", array_like=True):
        pass

    class Lax(Event, tag="lax", forbid_unknown_fields=False):
        pass

    class Renamed(Event, tag="renamed", rename="camel"):
        event_id: str

    class Same(Event, tag="card_payment"):
        pass

    class OwnProperties(Event, tag="own_properties"):
        properties: dict[str, str] | None = None

    class OwnOrigin(Event, tag="own_origin"):
        source_topic: str | None = None

    class RequiredOrigin(Event, tag="required_origin"):
        source_topic: OriginText

    class NoClient(Event, tag="no_client"):
        client_id: str | None = None  # type: ignore[assignment]

    class Zero(Event, tag="zero"):
        count: int = 0

    class Made(Event, tag="made"):
        items: list[int] = msgspec.field(default_factory=list)

    class WithSet(Event, tag="with_set"):
        labels: set[str] | None = None

    class WithTypedDict(Event, tag="with_typed_dict"):
        keyed: Keyed | None = None

    class WithCustom(Event, tag="with_custom"):
        custom: types.SimpleNamespace | None = None

    class WithOpen(Event, tag="with_open"):
        nested: list[Open] | None = None

    return {
        "Untagged has no tag": (Untagged,),
        "Numbered is tagged 7": (Numbered,),
        "Elsewhere is tagged 'elsewhere' in kind": (Elsewhere,),
        "Frozen is frozen or array_like": (Frozen,),
        "Arrayed is frozen or array_like": (Arrayed,),
        "Lax would lose unknown fields": (Lax,),
        "Renamed.event_id differs": (Renamed,),
        'CardPayment and Same have the same tag "card_payment"': (CardPayment, Same),
        "OwnProperties.properties differs": (OwnProperties,),
        "OwnOrigin.source_topic differs": (OwnOrigin,),
        "RequiredOrigin.source_topic differs": (RequiredOrigin,),
        "NoClient.client_id differs": (NoClient,),
        "Zero.count has a default": (Zero,),
        "Made.items has a default": (Made,),
        "WithSet.labels: Set is not supported": (WithSet,),
        "WithTypedDict.keyed: TypedDict is not supported": (WithTypedDict,),
        "WithCustom.custom: Custom is not supported": (WithCustom,),
        "Open would lose unknown fields": (WithOpen,),
    }


@pytest.mark.parametrize(("complaint", "kinds"), bad_models().items())
def test_refuses_a_model_that_would_lose_or_invent_values(complaint: str, kinds: tuple[object, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        make_model(*kinds)
    assert complaint in str(caught.value)


def test_accepts_structs_within_structs() -> None:
    class Nested(Event, tag="nested"):
        inner: Closed
        many: tuple[Closed, ...] | dict[str, tuple[int, Closed]] | None = None

    assert make_model(Nested).unbounded[Nested] == ("inner", "many")
