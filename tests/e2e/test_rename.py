"""Producers with other names: their events are quarantined as they came, and make rows after a rename."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.conftest import MakeTopic
from tests.e2e.conftest import MakeDaemon
from tests.e2e.daemon import DEADLINE, credentials, settings
from tests.e2e.group import caught_up
from tests.e2e.requeue import Requeue
from tests.e2e.stream import run_verify
from tests.e2e.test_any_json import rows_in
from tests.e2e.test_bad_input import quarantined_in, send
from tests.services.kafka import KafkaAddress
from tests.services.seaweed import S3Store

RENAME = {"events.rename": "type=event_type,id=event_id", "events.rename.user.id": "client_id"}
TRUST = {"breaker.max_share": "1"}
COUNT = 5


def foreign(number: int) -> bytes:
    user = {"id": f"c-{number}", "plan": "pro"}
    event = {"type": "web_visit", "id": f"e-{number}", "user": user, "event_timestamp": "2026-11-22T10:00:00Z"}
    return json.dumps(event, indent=1).encode()


def proposal(keys: Mapping[str, str], s3: S3Store) -> str:
    """What `ingestd check` says is to be done about the names."""
    flags = [part for key, value in keys.items() for part in ("--set", f"{key}={value}")]
    command = [sys.executable, "-m", "ingestd", "check", "--json", *flags]
    environment = {**os.environ, **credentials(s3)}
    said = ""
    for _ in range(3):  # its sample takes ten seconds at most, which a busy broker may need for something else
        done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False, env=environment)
        found = [json.loads(line) for line in done.stdout.splitlines()]
        for it in found:
            if it.get("check") == "events.rename":
                return str(it["todo"])
        said = done.stdout + done.stderr
    return said


async def test_what_was_quarantined_for_its_names_lands_after_a_rename_and_a_requeue(
    kafka: KafkaAddress, s3: S3Store, bucket: str, make_topic: MakeTopic, make_daemon: MakeDaemon, *, tmp_path: Path
) -> None:
    topic = await make_topic(1)
    await send(kafka.bootstrap, topic, {f"k-{number}": foreign(number) for number in range(COUNT)})
    daemon = make_daemon("before", topic, TRUST)
    await daemon.start_ready()
    await caught_up(kafka.bootstrap, topic, topic, {0: COUNT})
    assert await daemon.stop() == 0
    lines = quarantined_in(s3, bucket)
    assert {(line.reason, line.path) for line in lines.values()} == {("missing_field", "$.event_type")}
    assert [lines[offset].value for offset in sorted(lines)] == [foreign(number) for number in range(COUNT)]

    keys = settings(kafka.bootstrap, s3, bucket, topic)
    assert proposal(keys, s3).endswith("--set events.rename=type=event_type,id=event_id,user.id=client_id")
    requeue = Requeue(tmp_path, {**keys, **RENAME}, credentials(s3), records=100)
    assert (await requeue.run())["produced"] == COUNT
    renaming = make_daemon("after", topic, {**TRUST, **RENAME})
    await renaming.start_ready()
    await caught_up(kafka.bootstrap, topic, topic, {0: 2 * COUNT})
    assert await renaming.stop() == 0

    rows = rows_in(s3, bucket)
    found = sorted((row["event_type"], row["event_id"], row["client_id"]) for row in rows)
    assert found == [("web_visit", f"e-{number}", f"c-{number}") for number in range(COUNT)]
    assert all(row["properties"] == {"user": {"plan": "pro"}} for row in rows)
    assert set(quarantined_in(s3, bucket)) == set(lines)
    report = run_verify({**keys, **TRUST}, credentials(s3), "--read")
    assert report.ok
    assert (report.totals.rows, report.totals.rejected) == (COUNT, COUNT)
