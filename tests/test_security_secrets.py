"""Secrets where no service is needed to see them leak: files that do not load, values that are refused, log lines."""

import base64
import io
import json
import logging
import urllib.parse
from pathlib import Path

import pytest
from botocore import exceptions as boto
from hypothesis import example, given
from hypothesis import strategies as st

from ingestd.cli import main as cli
from ingestd.config import secrets
from ingestd.config.keys import KEYS, shown
from ingestd.config.model import Config, LogConfig
from ingestd.config.types import Secret
from ingestd.ops import logs
from ingestd.sinks.s3_errors import classify
from tests.redaction import fresh_redaction

SECRET = 'hunter2-p%ss"w/rd'
SECRET_KEYS = [key for key in KEYS if KEYS[key].is_secret]


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh_redaction(monkeypatch)


def toml(key: str, text: str) -> str:
    table, _, name = key.rpartition(".")
    return f"[{table}]\n{name} = {text}\n"


@pytest.mark.parametrize("key", SECRET_KEYS)
@pytest.mark.parametrize(
    "text",
    [
        f"'{SECRET}'x",  # no TOML
        f"'{SECRET}",
        SECRET,
        f"['{SECRET}']",  # of another type
        f"{{password = '{SECRET}'}}",
        f"'{SECRET}'\nsasl_pasword = '{SECRET}'",  # a key that does not exist
    ],
    ids=["junk behind", "no end", "no quotes", "a list", "a table", "a slip"],
)
@pytest.mark.parametrize("command", ["run", "config"])
def test_a_file_that_does_not_load_is_not_quoted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str, text: str, command: str
) -> None:
    file = tmp_path / "ingestd.toml"
    file.write_text(toml(key, text))
    assert cli.main([command, "--config", str(file)]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("ingestd: ")
    assert "hunter2" not in captured.out + captured.err


@pytest.mark.parametrize("key", SECRET_KEYS)
def test_a_secret_on_the_command_line_is_refused_and_not_repeated(key: str, capsys: pytest.CaptureFixture[str]) -> None:
    for flag in (f"{key}={SECRET}", f"{key}x={SECRET}"):
        assert cli.main(["config", "--set", flag]) == 2
    captured = capsys.readouterr()
    assert "hunter2" not in captured.out + captured.err


@pytest.mark.parametrize(
    "login", [{"registry.token": SECRET}, {"registry.username": "me", "registry.password": SECRET}]
)
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_config_shows_that_there_are_secrets_and_no_more(
    form: list[str], login: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {key: SECRET for key in SECRET_KEYS if not key.startswith("registry.")} | login
    for key, value in keys.items():
        monkeypatch.setenv("INGESTD__" + key.replace(".", "__").upper(), value)
    assert cli.main(["config", *form]) == 0
    out = capsys.readouterr().out
    assert out.count("<redacted>") == list(keys.values()).count(SECRET)
    assert "hunter2" not in out


URLS = [
    "https://user:hunter2@host/path",
    "https://user:hun@hunter2@host",
    "https://user:pa/hunter2@host/path",
    "https://hunter2@host",
    "https://host/token?client_secret=hunter2",
    "https://host/token#hunter2@",
    "s3://AKID:hunter2@bucket/prefix",
    "s3://AKID:hun/hunter2@bucket",
    "kafka://user:hunter2@broker:9092",
]


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("key", ["s3.endpoint_url", "kafka.oauth_token_url", "sink.url", "kafka.bootstrap_servers"])
def test_credentials_in_a_url_are_refused_and_not_shown(key: str, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["config", "--set", f"{key}={url}"]) == 2
    captured = capsys.readouterr()
    assert key in captured.err
    assert "hunter2" not in captured.out + captured.err


@given(st.text("ab:/@?.", max_size=12), st.sampled_from(["", "/x", "?y", ",b:1"]))
@example("a@b/c", "")
def test_what_is_before_the_last_at_of_a_url_is_never_shown(user: str, rest: str) -> None:
    assert "hunter2" not in shown(f"https://hunter2{user}@host{rest}")
    assert "hunter2" not in shown(f"https://{user}hunter2@host{rest}")


def test_a_secret_shows_itself_in_no_way_that_python_has() -> None:
    secret = Secret(SECRET)
    config = Config()
    for text in (str(secret), repr(secret), f"{secret}", "%s" % secret, str([secret]), str(vars), f"{config}"):  # noqa: UP031
        assert "hunter2" not in text
    with pytest.raises(TypeError):
        json.dumps(secret)


# -- log lines


def logged(call: str, secret: str, *, logger: str = "ingestd", form: str = "json") -> str:
    """What is written of a line that has a text derived from a secret, and of an exception with it."""
    stream = io.StringIO()
    logs.setup(LogConfig(level="DEBUG", format="json" if form == "json" else "text"), stream=stream)
    try:
        raise ValueError(call)
    except ValueError:
        logging.getLogger(logger).warning("%s", call, exc_info=True, extra={"field": call})
    return stream.getvalue()


@pytest.mark.parametrize(
    "form",
    [
        str, repr, lambda text: json.dumps({"p": text}), urllib.parse.quote, urllib.parse.quote_plus,
        lambda text: urllib.parse.urlencode({"p": text}), lambda text: urllib.parse.quote(text, safe=""),
        lambda text: base64.b64encode(text.encode()).decode(),
    ],
    ids=["as it is", "repr", "JSON", "quoted", "plus", "form", "quoted whole", "base64"],
)  # fmt: skip
@pytest.mark.parametrize("secret", [SECRET, "correct horse\\battery+staple=", "pässwörd-ß", "tok\nen\x00x"])
@pytest.mark.parametrize("format_", ["json", "text"])
def test_a_secret_is_removed_in_every_form_that_it_is_written_in(form: object, secret: str, format_: str) -> None:
    assert callable(form)
    written = str(form(secret))
    secrets.REDACTION.hide(secret)
    output = logged(f"before {written} after", secret, form=format_)
    core = written.strip("'\"")
    assert core not in output
    assert json.dumps(core)[1:-1] not in output
    assert output.count("<redacted>") == 3


def test_a_configured_secret_outlives_any_number_of_passing_ones() -> None:
    redaction = secrets.Redaction()
    redaction.hide(SECRET, fixed=True)
    for number in range(3 * secrets.MAX_HIDDEN):
        redaction.hide(f"token-{number:04d}")
    assert redaction.clean(f"{SECRET} token-0191 token-0000") == "<redacted> <redacted> token-0000"


@pytest.mark.parametrize("logger", ["botocore.credentials", "aiobotocore.credentials"])
def test_the_s3_client_s_tracebacks_are_left_out(logger: str) -> None:
    line = json.loads(logged("Refreshing temporary credentials failed", "", logger=logger))
    assert line["message"] == "Refreshing temporary credentials failed"
    assert "exception" not in line


@pytest.mark.parametrize(
    "said",
    [
        "bad request: Authorization: AWS4-HMAC-SHA256 Credential=AKID/x, SignedHeaders=host, Signature=hunter2",
        "no X-Amz-Security-Token: hunter2 known",
        "x-amz-security-token=hunter2",
        '{"authorization": "hunter2"}',
        "presigned ?X-Amz-Credential=hunter2&X-Amz-Signature=hunter2",
        "AWS4-HMAC-SHA256 hunter2",
        "Authorization : Bearer hunter2",
    ],
)
@pytest.mark.parametrize("code", ["AccessDenied", "InternalError", "NeverHeardOfIt"])
def test_what_a_store_quotes_of_a_request_s_signature_is_cut(said: str, code: str) -> None:
    response = {"Error": {"Code": code, "Message": said}, "ResponseMetadata": {"HTTPStatusCode": 403}}
    error = classify(boto.ClientError(response, "PutObject"), "write s3://bucket/key")  # type: ignore[arg-type]
    assert "hunter2" not in str(error)
    assert code in str(error)


def test_what_a_store_says_of_its_own_is_passed_on() -> None:
    said = "The authorization header is malformed; the region 'us-east-1' is wrong; expecting 'eu-central-1'"
    response = {"Error": {"Code": "X", "Message": said}, "ResponseMetadata": {"HTTPStatusCode": 400}}
    assert said in str(classify(boto.ClientError(response, "PutObject"), "write"))  # type: ignore[arg-type]
