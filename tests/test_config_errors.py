"""What an operator reads of a faulty configuration: every error at once, with its line, and what is nearly right."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ingestd.cli.main import main
from ingestd.config.keys import KEYS
from ingestd.config.load import load
from ingestd.config.toml_lines import key_lines
from ingestd.core.errors import ConfigError, ConfigErrors
from tests.test_config_load import PASSWORD, flags, refused, toml, with_flags

FAULTY = """\
grace = 'soon'
[snowflake]
password = '''
[batch]
records = 1
'''
[kafka]
topics = [
  'a',
]
session_timeout = '2h'
fetch = 1
[[batch]]
"""


def test_every_error_is_told_at_once_each_with_its_line(tmp_path: Path) -> None:
    path = toml(tmp_path, FAULTY)
    with pytest.raises(ConfigErrors) as caught:
        load(path=path, environ={"INGESTD__BATCH__ROWS": "1", "INGESTD__HEALTH__PORT": "x"}, flags=flags("log.level=x"))
    assert [str(error).partition(" (")[0] for error in caught.value.errors] == [
        f"unknown key kafka.fetch from {path}:12",
        f"batch from {path}:13 is a table, not a key",
        "environment variable INGESTD__BATCH__ROWS matches no key",
        f"grace = soon from {path}:1 is not accepted",
        "health.port = x from environment variable INGESTD__HEALTH__PORT is not accepted",
        "log.level = x from --set is not accepted",
        f"kafka.session_timeout = 2h from {path}:11 is out of range",
    ]


@given(st.lists(st.sampled_from(["a = 1", "b.c = [\n1,\n]", "[t]", "[t.u]", "d = '''\nx = 1\n'''", "# e = 1", ""])))
def test_the_line_of_a_key_begins_with_it(lines: list[str]) -> None:
    text = "\n".join(lines)
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        assume(False)
    for name, line in key_lines(text).items():
        assert text.splitlines()[line - 1].strip("[] ").split(" = ")[0].split(".")[0] in name.split(".")


def test_a_statement_of_very_many_lines_is_given_up() -> None:
    assert key_lines("a = 1\nb = [\n" + "1,\n" * 5000 + "]\nc = 1") == {"a": 1}


def syntax_error(tmp_path: Path, text: str) -> tuple[str, tuple[str, ...]]:
    """Where the error is, and what is shown of the file."""
    file = tmp_path / "given.toml"
    file.write_bytes(text.encode())
    with pytest.raises(ConfigError, match="is not valid") as caught:
        load(path=str(file), environ={})
    assert PASSWORD not in str(caught.value)
    return str(caught.value).partition(f"{file}:")[2].partition(" is not valid")[0], caught.value.excerpt


@pytest.mark.parametrize(
    ("text", "where", "shown", "caret"),
    [
        ("[batch]\ninterval = 3x\n", "2:13", "interval = 3x", 13),
        ("[batch]\r\n\r\ninterval = 3x\r\n", "3:13", "interval = 3x", 13),
        ("[batch\ninterval = 3", "1:7", "[batch", 7),
        ("[kafka]\ntopics = ['a'\n'b']", "3:1", "'b']", 1),
        ("[kafka]\ntopics = [\n'a',\n", "2:10", "topics = [", 10),  # it is not closed
        ("[kafka]\ntopics = '''\n", "2:10", "topics = '''", 10),
        ("grace = '1s'\n\tgrace = '\u20282s'\n", "2:15", " grace = ' 2s'", 15),
        ("[kafka]\ntopics = ['" + "a" * 200 + "', x", "2:215", "a" * 47 + "', x", 51),
        ("[kafka]\ntopics = ['" + "é" * 60 + "', x" + "y" * 200, "2:75", "é" * 47 + "', x" + "y" * 49, 51),
    ],
)
def test_a_syntax_error_is_shown_with_its_line_and_a_caret(
    tmp_path: Path, text: str, where: str, shown: str, caret: int
) -> None:
    assert syntax_error(tmp_path, text) == (where, (shown, " " * (caret - 1) + "^"))


SECRETS = [name.split(".") for name, key in KEYS.items() if key.is_secret]


@pytest.mark.parametrize(
    "text",
    [
        "[{table}]\n{name} = '{secret}\n",
        "[{table}]\n{name} = {secret}\n",
        "[{table}]\n{name} '{secret}'\n",
        "{table}.{name} = '{secret}' x\n",
        "{table} = {{ {name} = '{secret}', x }}\n",
        "[{table}]\n'{name}' = '{secret}\n",
        "[{table}]\n{name} = '''\n{secret}\n",
        '[{table}]\n{name} = """\ngrace = 1\n\\q{secret}\n"""\n',  # a private key has several lines
        "[{table}]\ntopics = [\n{name} = '{secret}'\n",
        "[{table}] {secret}\n{name} = ''",
        "[kafka]\nbootstrap_servers = 'me:{secret}@host\n",
        "[{table}]\npaswort = {secret}\n",  # not a key
        "{secret}",
    ],
)
def test_a_line_that_may_hold_a_secret_is_not_shown(tmp_path: Path, text: str) -> None:
    for table, name in SECRETS:
        where, excerpt = syntax_error(tmp_path, text.format(table=table, name=name, secret=PASSWORD))
        assert where, "the position is told"
        assert not excerpt


def test_the_line_and_the_caret_are_printed_below_the_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", toml(tmp_path, "grace = 3x")]) == 2
    message, *excerpt = capsys.readouterr().err.splitlines()
    assert message.startswith("ingestd: the configuration file ")
    assert excerpt == ["    grace = 3x", "             ^"]


def test_a_number_with_too_many_digits_for_python_is_told(tmp_path: Path) -> None:
    assert "too many digits" in refused(path=toml(tmp_path, "grace = " + "9" * 5000))


def test_a_variable_that_is_nearly_a_key_is_told() -> None:
    environ = {
        "INGESTD_BATCH_INTERVAL": "3s",
        "ingestd__batch__records": "1",
        "INGESTD_BACH_BYTES": "1",
        "INGESTD_CONFIG": "",
        "INGESTD_PORT": "tcp://10.0.0.1:9464",
        "INGESTD_SERVICE_HOST": "10.0.0.1",
        "INGESTD_PORT_9464_TCP_ADDR": "10.0.0.1",
    }
    first, second, third = load(environ=environ).warnings
    assert first == (
        "environment variable INGESTD_BATCH_INTERVAL has no effect: it matches no key "
        "(did you mean INGESTD__BATCH__INTERVAL?)"
    )
    assert "did you mean INGESTD__BATCH__RECORDS?" in second
    assert "did you mean INGESTD__BATCH__BYTES?" in third


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("kafka.bootstrap_servers", f"SASL://admin:{PASSWORD}@host:9092"),
        ("kafka.bootstrap_servers", f"admin:{PASSWORD}@host:9092"),
        ("kafka.bootstrap_servers", f"host:1,admin:a@b/{PASSWORD},x@host:9092"),
        ("kafka.bootstrap_servers", f"{PASSWORD}@host:9092"),
        ("s3.endpoint_url", f"{PASSWORD}@host"),
        ("kafka.group_id", f"admin:{PASSWORD}@host" + "x" * 1024),
    ],
)
def test_a_user_and_a_password_in_an_address_are_not_printed(key: str, value: str) -> None:
    assert "<redacted>@" in refused(f"{key}={value}")


def test_a_topic_is_named_once() -> None:
    assert refused("kafka.topics=a,b,a").startswith("kafka.topics = a,b,a from --set names a more than once")


@pytest.mark.parametrize(
    "url",
    [
        "s3:/bucket/x", "s3:bucket", "s3:\\\\bucket", "s3//bucket/x", "S3//bucket", "arn:aws:s3:::bucket", "C:\\data",
        "~/data", "~", "$HOME/data", "/data/${USER}", "$(pwd)/x", "%HOME%/data", "data\\x", " ./data", "./data ",
        "c:/data", "file:/data", "https://bucket.s3.amazonaws.com/x", "s3a://bucket/x",
    ],
)  # fmt: skip
def test_what_is_nearly_a_url_is_no_directory(url: str) -> None:
    assert "s3://bucket" in refused(environ={"INGESTD__SINK__URL": url})


@pytest.mark.parametrize("url", ["./data", "data", "a/b c", "/a%b", "./a:b", "a~", "50%/x", "/data/$", "../x"])
def test_a_path_is_a_directory(url: str) -> None:
    assert with_flags(f"sink.url={url}").sink.url == url


@pytest.mark.parametrize("path", ["s3://bucket/w.duckdb", "~/w.duckdb"])
def test_the_local_warehouse_is_a_path(path: str) -> None:
    assert "warehouse.path" in refused(f"warehouse.path={path}")
