"""The SQS source against scripted answers: failures, partial failures, credentials, what is malformed."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from ingestd.config.model import EventsConfig
from ingestd.core.errors import SourceError
from ingestd.core.events import ANY_JSON, Model, load_model
from ingestd.core.json_validation import make_validator
from ingestd.core.records import TopicPartition
from ingestd.core.row_origin import RowOrigin
from ingestd.sources.sqs import sender as sender_module
from ingestd.sources.sqs import source as source_module
from ingestd.sources.sqs.envelope import unwrap
from ingestd.sources.sqs.port import Message
from ingestd.sources.sqs.sender import SqsSender
from ingestd.sources.sqs.source import SqsSource
from tests.scripted_sqs import ATTRIBUTES, QUEUE_ARN, SECRET, Answer, ScriptedSqs, all_done, fault, message

LIMIT = 30
EVENT = '{"event_type":"web_visit","event_id":"e","client_id":"c","event_timestamp":"2026-01-02T03:04:05Z"}'


@pytest.fixture(autouse=True)
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Credentials that the server knows, and no others; retries that take no time."""
    for name in ("SESSION_TOKEN", "PROFILE", "WEB_IDENTITY_TOKEN_FILE", "REGION", "DEFAULT_REGION"):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKID")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setattr(source_module, "_RETRY_INITIAL_S", 0.01)
    monkeypatch.setattr(source_module, "_RETRY_MAX_S", 0.02)
    monkeypatch.setattr(source_module, "_LAST_ANSWER_S", 0.05)


@asynccontextmanager
async def started(server: ScriptedSqs, **more: Any) -> AsyncIterator[SqsSource]:
    source = SqsSource(server.config(**more))
    try:
        async with asyncio.timeout(LIMIT):
            await source.start()
            yield source
    finally:
        await source.stop()


def error_of(source: SqsSource) -> str:
    """The current error; a function, because mypy does not know that a property changes."""
    return source.error or ""


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT):
        while not holds():  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.001)


async def test_signs_what_it_sends_and_asks_for_what_the_pipeline_needs() -> None:
    async with ScriptedSqs(ReceiveMessage=[Answer({"Messages": [message()]})]) as server:
        async with started(server) as source:
            assert source.source_id == QUEUE_ARN
            assert source.queue == "events"
            assert len(await source.receive() or ()) == 1
        [request] = server.requests["ReceiveMessage"]
    assert (request["MaxNumberOfMessages"], request["VisibilityTimeout"], request["WaitTimeSeconds"]) == (10, 600, 1)
    wanted = {"SentTimestamp", "ApproximateReceiveCount", "ApproximateFirstReceiveTimestamp", "MessageGroupId"}
    assert wanted == set(request["MessageSystemAttributeNames"])
    assert request["MessageAttributeNames"] == ["All"]


async def test_signs_with_the_token_of_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "a token")
    async with ScriptedSqs() as server, started(server):
        assert server.headers[0]["x-amz-security-token"] == "a token"
        assert "x-amz-security-token" in server.headers[0]["authorization"]


@pytest.mark.parametrize("kind", ["QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue"])
async def test_start_ends_where_there_is_no_queue(kind: str) -> None:
    async with ScriptedSqs(GetQueueAttributes=[fault(kind, "The specified queue does not exist.")]) as server:
        with pytest.raises(SourceError, match=r"queue events: .*does not exist.*correct sqs\.queue_url, sqs\.region"):
            async with started(server):
                pass


@pytest.mark.parametrize(
    ("answer", "said", "level"),
    [
        (fault("AccessDenied", "not authorized to perform: sqs:receivemessage"), "grant sqs:GetQueueAttr", "ERROR"),
        (fault("AccessDeniedException", "not authorized to perform: kms:Decrypt"), "grant kms:Decrypt", "ERROR"),
        (fault("KmsAccessDenied", "KMS"), "grant kms:Decrypt", "ERROR"),
        (fault("KmsDisabled", "KMS"), "is enabled", "ERROR"),
        (fault("InvalidClientTokenId", "AKID is secret"), "valid AWS credentials", "ERROR"),
        (fault("InvalidSignatureException", "Signature expired: 2026 is now earlier than 2027"), "clock", "ERROR"),
        (fault("InvalidSignatureException", "Credential should be scoped to a valid region."), "sqs.region", "ERROR"),
        (fault("InvalidSecurity"), "with https", "ERROR"),
        (fault("Unheard"), "documentation of SQS", "ERROR"),
        (Answer(b"<html>", 404), "not SQS: correct sqs.queue_url", "ERROR"),
        (Answer(b"<html>"), "not SQS: correct sqs.queue_url", "ERROR"),
        (Answer({"Messages": [{"MessageId": "1"}]}), "not SQS: correct sqs.queue_url", "ERROR"),
        (Answer({}, 302, {"Location": "http://127.0.0.1:1/"}), "not SQS: correct sqs.queue_url", "ERROR"),
        (fault("OverLimit", "Too many messages are inflight"), "the sink is slow", "WARNING"),
    ],
)
async def test_a_failure_that_an_operator_mends_is_told_at_once_and_retried(
    answer: Answer, said: str, level: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with (
        ScriptedSqs(ReceiveMessage=[answer, Answer({"Messages": [message()]})]) as server,
        started(server) as source,
    ):
        assert len(await source.receive() or ()) == 1
        assert (source.error, source.error_since) == (None, None)
    failure, recovered = [it for it in caplog.records if it.name.startswith("ingestd.sources")]
    assert failure.levelname == level
    assert said in failure.getMessage()
    assert "of queue events" in failure.getMessage()
    assert "recovered" in recovered.getMessage()
    assert "AKID" not in caplog.text


@pytest.mark.parametrize(
    "answer",
    [fault("RequestThrottled"), fault("ThrottlingException"), fault("KmsThrottled"), Answer(b"", 503),
     fault("InternalError", status=500), Answer(cut=True)],
)  # fmt: skip
async def test_a_failure_that_passes_is_told_only_if_it_lasts(answer: Answer, caplog: pytest.LogCaptureFixture) -> None:
    messages = Answer({"Messages": [message()]})
    async with (
        ScriptedSqs(ReceiveMessage=[answer, messages, *[answer] * 3, messages]) as server,
        started(server) as source,
    ):
        assert await source.receive()
        assert not caplog.records
        assert await source.receive()
    assert [it.levelname for it in caplog.records if it.name.startswith("ingestd.sources")] == ["WARNING"]


async def test_an_error_is_seen_while_it_lasts() -> None:
    async with ScriptedSqs(ReceiveMessage=[fault("AccessDenied")]) as server, started(server) as source:
        request = asyncio.create_task(source.receive())
        await until(lambda: bool(error_of(source)))
        assert "AccessDenied" in error_of(source)
        assert source.error_since is not None
        source.finish()
        assert await request is None


@pytest.mark.parametrize("old", ["", f"[default]\naws_access_key_id = OLD\naws_secret_access_key = {SECRET}\n"])
async def test_new_credentials_are_found_without_a_restart(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, old: str
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    file = tmp_path / "credentials"
    file.write_text(old)
    server = ScriptedSqs()

    def knows_the_new_ones(_: dict[str, Any]) -> Answer:
        refused = "Credential=OLD/" in server.headers[-1]["authorization"]
        return fault("InvalidClientTokenId") if refused else Answer(ATTRIBUTES)

    server.steps["GetQueueAttributes"] = [knows_the_new_ones]
    async with server, asyncio.timeout(LIMIT):
        source = SqsSource(server.config())
        start = asyncio.create_task(source.start())
        await until(lambda: bool(error_of(source)))
        assert "valid AWS credentials" in error_of(source)
        file.write_text(f"[default]\naws_access_key_id = AKID\naws_secret_access_key = {SECRET}\n")
        await start
        assert not error_of(source)
        await source.stop()


async def test_no_region_is_an_error_that_names_the_key() -> None:
    async with ScriptedSqs() as server:
        source = SqsSource(server.config(region=None))
        start = asyncio.create_task(source.start())
        await until(lambda: bool(error_of(source)))
        assert "set sqs.region, AWS_REGION or AWS_DEFAULT_REGION" in error_of(source)
        start.cancel()
        await source.stop()


async def test_a_part_of_a_batch_fails_alone() -> None:
    def some_fail(request: dict[str, Any]) -> Answer:
        ids = [entry["Id"] for entry in request["Entries"]]
        assert len(set(ids)) == len(ids) <= 10
        bad = [entry["Id"] for entry in request["Entries"] if "bad" in entry["ReceiptHandle"]]
        silent = [entry["Id"] for entry in request["Entries"] if "silent" in entry["ReceiptHandle"]]
        good = [name for name in ids if name not in {*bad, *silent}]
        failed = [{"Id": name, "Code": "ReceiptHandleIsInvalid", "SenderFault": True, "Message": "m"} for name in bad]
        return Answer({"Successful": [{"Id": name} for name in good], "Failed": failed})

    receipts = [*(f"h{number}" for number in range(24)), "bad", "silent"]
    async with ScriptedSqs(DeleteMessageBatch=[some_fail], ChangeMessageVisibilityBatch=[some_fail]) as server:
        async with started(server) as source:
            assert sorted(await source.delete(receipts)) == ["bad", "silent"]
            assert error_of(source)
            assert sorted(await source.extend(receipts, 77)) == ["bad", "silent"]
            assert await source.delete(["h1", "h1"]) == []
            assert await source.extend(["h1"], 1) == []
            assert not error_of(source)
        sent = [entry["ReceiptHandle"] for it in server.requests["DeleteMessageBatch"][:3] for entry in it["Entries"]]
        assert sorted(sent) == sorted(receipts)
        extended = [entry for it in server.requests["ChangeMessageVisibilityBatch"] for entry in it["Entries"]]
        assert {entry["VisibilityTimeout"] for entry in extended} == {77, 1}


@pytest.mark.parametrize("answer", [fault("AccessDenied"), Answer(b"", 500), Answer(cut=True), Answer(b"nothing")])
async def test_a_batch_that_fails_is_tried_once(answer: Answer) -> None:
    async with ScriptedSqs(DeleteMessageBatch=[answer, all_done]) as server, started(server) as source:
        receipts = [f"h{number}" for number in range(10)]
        assert await source.delete(receipts) == receipts
        assert error_of(source)
        assert len(server.requests["DeleteMessageBatch"]) == 1
        assert await source.delete(receipts) == []
        assert not error_of(source)


async def test_no_answer_ends_with_the_time_out() -> None:
    async with (
        ScriptedSqs(DeleteMessageBatch=[Answer(silent=True)]) as server,
        started(server, connect_timeout=0.1, read_timeout=0.1) as source,
    ):
        assert await source.delete(["h"]) == ["h"]
        assert error_of(source)
        assert "no answer before the deadline" in error_of(source)


async def test_finish_cancels_no_request_as_long_as_it_may_be_answered() -> None:
    """SQS would hide a message that comes meanwhile, and nobody would know it."""
    async with (
        ScriptedSqs(ReceiveMessage=[Answer({"Messages": [message()]}, late=True)]) as server,
        started(server, wait=20) as source,
    ):
        request = asyncio.create_task(source.receive())
        await server.waiting.wait()
        source.finish()
        await asyncio.wait([request], timeout=0.6)
        server.release.set()
        assert len(await request or ()) == 1
        assert await source.receive() is None
        assert len(server.requests["ReceiveMessage"]) == 1


async def test_finish_waits_no_longer_for_an_answer_than_its_request_does() -> None:
    """Else a dead connection would take the time in which the last batches land."""
    async with (
        ScriptedSqs(ReceiveMessage=[Answer(silent=True)]) as server,
        started(server, wait=0.1, read_timeout=LIMIT) as source,
    ):
        request = asyncio.create_task(source.receive())
        await server.waiting.wait()
        source.finish()
        assert await request is None


async def test_a_body_with_another_md5_is_not_handed_out(caplog: pytest.LogCaptureFixture) -> None:
    wrong = message(1, MD5OfBody="0" * 32)
    steps = [Answer({"Messages": [message(0), wrong, message(2)]}), Answer({"Messages": [message(1)]})]
    async with ScriptedSqs(ReceiveMessage=steps) as server, started(server) as source:
        assert [it.message_id for it in await source.receive() or ()] == ["id-0", "id-2"]
        assert error_of(source)
        assert "id-1" in error_of(source)
        assert [it.message_id for it in await source.receive() or ()] == ["id-1"]
        assert not error_of(source)
    assert "another MD5" in caplog.text


async def test_half_of_a_surrogate_pair_does_not_keep_other_messages_away() -> None:
    messages = [message(0), message(1, '{"a":"\ud800"}'), message(2)]
    async with ScriptedSqs(ReceiveMessage=[Answer({"Messages": messages})]) as server, started(server) as source:
        found = await source.receive() or ()
        assert [it.value for it in found] == [b"{}", b'{"a":"\xed\xa0\x80"}', b"{}"]


async def test_attributes_and_texts_like_null_are_taken_as_they_are() -> None:
    attributes = {"n": {"DataType": "String", "StringValue": "null"}, "b": {"DataType": "Binary", "BinaryValue": "?"}}
    one = message(0, "null", MessageAttributes=attributes)
    one["Attributes"]["MessageGroupId"] = "null"
    async with ScriptedSqs(ReceiveMessage=[Answer({"Messages": [one]})]) as server, started(server) as source:
        [found] = await source.receive() or ()
    assert (found.value, found.key, found.group) == (b"null", b"null", None)
    assert dict(found.headers) == {"n": b"null", "b": b"?"}


async def test_the_depth_is_unknown_while_the_queue_does_not_tell(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    steps = [Answer(ATTRIBUTES), fault("AccessDenied"), fault("AccessDenied"), Answer({}), Answer(ATTRIBUTES)]
    async with ScriptedSqs(GetQueueAttributes=steps) as server, started(server) as source:
        assert [await source.depth() for _ in range(3)] == [None] * 3
        depth = await source.depth()
        assert depth is not None
        assert (depth.visible, depth.in_flight, depth.oldest_s) == (7, 3, None)
        assert not error_of(source)
    assert [it.levelname for it in caplog.records if "depth" in it.getMessage()] == ["WARNING", "INFO"]


async def test_an_answer_without_an_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingestd.sources.sqs.client._MAX_ANSWER_BYTES", 1000)
    large = Answer({"Messages": [message(0, "x" * 2000)]})
    async with ScriptedSqs(ReceiveMessage=[large]) as server, started(server) as source:
        request = asyncio.create_task(source.receive())
        await until(lambda: bool(error_of(source)))
        assert "more than 1000 bytes" in error_of(source)
        source.finish()
        assert await request is None


# -- attributes and groups in rows, and back to the queue


@pytest.mark.parametrize("model", [pytest.param(ANY_JSON, id="json"), pytest.param(load_model(None), id="events")])
async def test_the_group_and_the_attributes_of_a_message_are_in_its_row(model: Model) -> None:
    attributes = {
        "trace": {"DataType": "String", "StringValue": "caf\xe9"},
        "n": {"DataType": "Number", "StringValue": "7"},
    }
    binary = {"raw": {"DataType": "Binary", "BinaryValue": "/w=="}}
    keyed, plain = message(0, EVENT, MessageAttributes={**attributes, **binary}), message(1, EVENT)
    keyed["Attributes"]["MessageGroupId"] = "group-1"
    async with ScriptedSqs(ReceiveMessage=[Answer({"Messages": [keyed, plain]})]) as server, started(server) as source:
        first, second = rows_of(model, await source.receive() or ())
    assert (first["source_message_id"], first["source_key"]) == ("id-0", "group-1")
    assert first["source_headers"] == [
        {"name": "trace", "value": "caf\xe9"}, {"name": "n", "value": "7"}, {"name": "raw", "value_base64": "/w=="}
    ]  # fmt: skip
    assert second["source_message_id"] == "id-1"
    assert second.keys().isdisjoint(("source_key", "source_key_base64", "source_headers"))


async def test_a_notification_s_attributes_take_the_place_of_the_message_s() -> None:
    inner = {"kind": {"Type": "String", "Value": "a"}}
    sns = {"Type": "Notification", "TopicArn": "arn", "Message": EVENT, "MessageAttributes": inner}
    one = message(0, json.dumps(sns))
    script = [Answer({"Messages": [one]})]
    async with ScriptedSqs(ReceiveMessage=script) as server, started(server, envelope="sns") as source:
        [found] = rows_of(ANY_JSON, await source.receive() or ())
    assert found["source_headers"] == [{"name": "kind", "value": "a"}]


def rows_of(model: Model, messages: Sequence[Message]) -> list[dict[str, Any]]:
    validator = make_validator(EventsConfig(include=("key", "headers")), model, RowOrigin.MESSAGE_ID)
    found = validator.chunk(TopicPartition("events", 0), messages)
    assert not found.rejected
    return [json.loads(line) for line in found.rows.splitlines()]


HEADERS = (("trace", "caf\xe9".encode()), ("raw", b"\xff"), ("control", b"\x01"), ("empty", b""), ("none", None))


async def sent(
    server: ScriptedSqs, *records: tuple[bytes, bytes | None, str, Any], **more: Any
) -> list[dict[str, Any]]:
    """The entries that came of records that a sender was given."""
    sender = SqsSender(server.config(**more))
    try:
        assert await sender.put(records) == [None] * len(records)
    finally:
        await sender.close()
    return [entry for request in server.requests["SendMessageBatch"] for entry in request["Entries"]]


async def test_a_requeued_message_keeps_its_attributes_and_its_group() -> None:
    async with ScriptedSqs() as server:
        keyed, plain = await sent(server, (b"{}", b"group-1", "x:0", HEADERS), (b"{}", None, "x:1", ()))
    assert keyed["MessageAttributes"] == {
        "trace": {"DataType": "String", "StringValue": "caf\xe9"},
        "raw": {"DataType": "Binary", "BinaryValue": "/w=="},
        "control": {"DataType": "Binary", "BinaryValue": "AQ=="},
    }
    assert keyed["MessageGroupId"] == "group-1"
    assert plain.keys() == {"Id", "MessageBody"}


async def test_a_requeued_notification_has_its_attributes_where_it_had_them() -> None:
    async with ScriptedSqs() as server:
        [entry] = await sent(server, (b"{}", None, "x:0", HEADERS[:2]), envelope="sns")
    assert "MessageAttributes" not in entry
    content = unwrap(entry["MessageBody"].encode(), (), "sns")
    assert (content.value, content.headers, content.refused) == (b"{}", HEADERS[:2], None)


async def test_attributes_count_towards_the_size_of_a_message_and_of_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender_module, "MAX_BYTES", 1000)
    async with ScriptedSqs() as server:
        fits = (b"x" * 900, None, "x:0", (("name", b"y" * 90),))
        assert len(await sent(server, fits, fits)) == len(server.requests["SendMessageBatch"]) == 2
        sender = SqsSender(server.config())
        try:
            [why] = await sender.put([(b"x" * 900, None, "x:0", (("name", b"y" * 91),))])
        finally:
            await sender.close()
    assert why == "1,001 bytes, more than the 1,000 of a message"
