"""`events.rename`: a table in the file, and text in the environment and in flags."""

import tomllib
from pathlib import Path

import pytest

from ingestd.config.effective import as_toml
from ingestd.config.load import Flag, load
from ingestd.core.errors import ConfigError

VARIABLE = "INGESTD__EVENTS__RENAME"
BOTH = {"type": "event_type", "user.id": "client_id"}


def renamed(text: str = "", *pairs: str, variable: str | None = None, folder: Path | None = None) -> dict[str, str]:
    """The table that these make together."""
    path = None
    if folder is not None:
        path = str(folder / "ingestd.toml")
        Path(path).write_text(text)
    flags = [Flag("--set", *pair.split("=", 1)) for pair in pairs]
    environ = {} if variable is None else {VARIABLE: variable}
    return dict(load(path=path, environ=environ, flags=flags).config.events.rename)


def refused(text: str = "", *pairs: str, variable: str | None = None, folder: Path | None = None) -> str:
    with pytest.raises(ConfigError) as raised:
        renamed(text, *pairs, variable=variable, folder=folder)
    return str(raised.value)


@pytest.mark.parametrize(
    "text",
    [
        '[events.rename]\ntype = "event_type"\n"user.id" = "client_id"',
        '[events.rename]\ntype = "event_type"\nuser.id = "client_id"',
        '[events.rename]\ntype = "event_type"\n[events.rename.user]\nid = "client_id"',
        '[events]\nrename = {type = "event_type", "user.id" = "client_id"}',
        '[events]\nrename = "type=event_type,user.id=client_id"',
    ],
)
def test_a_file_has_a_table(tmp_path: Path, text: str) -> None:
    assert renamed(text, folder=tmp_path) == BOTH


def test_text_has_pairs_between_commas() -> None:
    assert renamed(variable="type=event_type, user.id=client_id,") == BOTH
    assert renamed("", "events.rename=type=event_type,user.id=client_id") == BOTH
    assert renamed(variable="") == {}


def test_a_flag_for_one_path_adds_to_what_is_set_already(tmp_path: Path) -> None:
    file = '[events.rename]\ntype = "event_type"'
    assert renamed(file, "events.rename.user.id=client_id", folder=tmp_path) == BOTH
    assert renamed("", "events.rename.user.id=client_id", variable="type=event_type") == BOTH
    assert renamed("", "events.rename.type=event_type", "events.rename.user.id=client_id") == BOTH
    assert renamed(file, "events.rename.type=event_id", folder=tmp_path) == {"type": "event_id"}


def test_a_later_table_replaces_an_earlier_one(tmp_path: Path) -> None:
    assert renamed('[events.rename]\nid = "event_id"', folder=tmp_path, variable="type=event_type") == {
        "type": "event_type"
    }


def test_a_dot_within_a_name_has_a_backslash(tmp_path: Path) -> None:
    assert renamed("[events.rename]\n'user\\.id' = \"client_id\"", folder=tmp_path) == {r"user\.id": "client_id"}
    assert renamed("", r"events.rename.user\.id=client_id") == {r"user\.id": "client_id"}


def test_prints_as_toml_that_reads_back(tmp_path: Path) -> None:
    file = tmp_path / "ingestd.toml"
    file.write_text('[events.rename]\ntype = "event_type"\n\'a\\.b \x7f\' = "client_id"'.replace("\x7f", '"'))
    settings = load(path=str(file), environ={})
    assert settings.origins["events.rename"] == str(file)
    printed = tmp_path / "printed.toml"
    printed.write_text(as_toml(settings))
    assert load(path=str(printed), environ={}).config == settings.config
    assert tomllib.loads(printed.read_text())["events"]["rename"] == settings.config.events.rename


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('{a = "x", b = "x"}', 'events.rename = a=x,b=x from {}:2 renames "a" and "b" to x (remove one of them)'),
        ('{a = "x", "a.b.c" = "y"}', 'has "a", which contains "a.b.c" (remove one of them: a value moves to one field'),
        ('{a = "b", b = "c"}', 'renames "b" to c, and "a" to b (remove one of them: what is renamed to b is not'),
        ('{"a.x" = "b", c = "a"}', 'renames "a.x" to b, and "c" to a (remove one of them'),
        ('{event_id = "event_id"}', "renames event_id to itself (remove it)"),
        ('{"a..b" = "x"}', 'has "a..b", which is not a path (give names with dots between them, such as user.id'),
        ('{a = ""}', "events.rename = a= from {}:2 is not accepted (give a table of at most 100 fields"),
        ("{a = 5}", "events.rename = a=5 from {}:2 is not accepted (give a table"),
        ("[]", "from {}:2 is not accepted (give a table"),
        ('"type"', "events.rename = type from {}:2 is not accepted (give a table"),
        ('"a=x,a=y"', "events.rename = a=x,a=y from {}:2 is not accepted (give a table"),
        ('{"a.b" = "x", a.b = "y"}', "events.rename from {}:2 has a.b twice (remove one of them)"),
        ("{" + ", ".join(f'a{n} = "f{n}"' for n in range(101)) + "}", "is not accepted (give a table of at most 100"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_what_to_do(tmp_path: Path, table: str, message: str) -> None:
    assert message.format(tmp_path / "ingestd.toml") in refused(f"[events]\nrename = {table}", folder=tmp_path)


def test_tables_deeper_than_the_stack_are_refused(tmp_path: Path) -> None:
    deep = ".".join(["a"] * 5000)
    message = refused(f'[events.rename.{deep}]\nx = "y"', folder=tmp_path)
    # By tomllib itself from Python 3.14 on.
    assert "is not accepted (give a table" in message or "is nested too deeply" in message


def test_a_wrong_text_names_its_variable_or_flag() -> None:
    assert refused(variable="type").startswith(f"events.rename = type from environment variable {VARIABLE} is not")
    assert refused("", "events.rename.a..b=x").startswith("events.rename = a..b=x from --set has")
    assert "from environment variable" in refused("", "events.rename.a=x", variable="type")


def test_any_json_has_no_fields_to_rename_to() -> None:
    message = refused("", "events.rename.type=event_type", "events.model=json")
    assert "has no effect with events.model = json" in message
    assert "events.timestamp_field says where the event's time is" in message
