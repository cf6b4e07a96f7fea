"""What `ingestd check` says of the sink. Pure."""

import re
from collections.abc import Iterator, Mapping

from ingestd.capacity.estimate import Estimate
from ingestd.config.model import Config
from ingestd.core.errors import SinkError
from ingestd.core.formatting import size
from ingestd.core.object_keys import OWN, REQUEUED, ObjectKeys
from ingestd.preflight import CheckFinding, note, ok, wrong

_ACTION = re.compile(r"\b(?:s3|kms):[A-Z][A-Za-z]+")
_MIN_FREE_BYTES = 1 << 30


def places(layout: ObjectKeys, url: str) -> CheckFinding:
    """Whether the folder that Snowpipe loads holds rows and nothing else."""
    root = url.rstrip("/") + "/"
    pipe = f"{root}{layout.events}"
    seen = f"rows go to {pipe}; {layout.quarantine}, {REQUEUED} and {OWN} are beside it, for no pipe to read"
    last = url.rstrip("/").rpartition("/")[2]
    if last in {"events", "quarantine"}:
        todo = f"a pipe on {root} would load the quarantine: point it at {pipe}, or take {last}/ out of sink.url"
        return note("sink.places", f"{seen}; but sink.url ends with {last}/ itself", todo)
    return ok("sink.places", seen)


def refused(check: str, error: SinkError) -> CheckFinding:
    """A call that failed. If the store names the missing right, the advice is to grant it."""
    message = str(error.args[0])
    action = _ACTION.search(message)
    if action is not None:
        return wrong(check, message, f"grant {action[0]} to this process's user or role{_on(action[0])}")
    return wrong(check, message, error.hint or "check the network, s3.endpoint_url and the store")


def _on(action: str) -> str:
    return ", in its policy and in the key's" if action.startswith("kms:") else ""


def listed(layout: ObjectKeys, url: str, *, holds_objects: bool) -> CheckFinding:
    held = "holds objects" if holds_objects else "is empty"
    return ok("sink.list", f"{layout.events} of {url} can be listed and {held}; {layout.quarantine}, too")


def written(key: str, metadata: Mapping[str, str], *, new: bool) -> CheckFinding:
    """Whether an object could be written, now or earlier on this day."""
    if new:
        return ok("sink.write", f"wrote {key}")
    when = metadata.get("written-at", "a time that it does not tell")
    return ok("sink.write", f"a check at {when} wrote {key}; one object a day is written")


def create_only(config: Config, *, refused: bool) -> CheckFinding:
    """Whether a write to a taken key was refused."""
    check = "sink.create_only"
    if config.sink.delivery != "exactly-once":
        return note(check, "sink.delivery = at-least-once: writes are not conditional", "")
    if refused:
        return ok(check, "a write under a name that is taken is refused")
    return wrong(
        check,
        "the store ignores If-None-Match: it has overwritten an object, so two writers would lose rows",
        'use a store with conditional writes, or ask for duplicates with sink.delivery = "at-least-once"',
    )


def read_back(*, body: bool, metadata: bool) -> CheckFinding:
    check = "sink.read"
    if not body:
        return wrong(
            check, "the object that was written is not what is read", "no middleman may change or unpack bodies"
        )
    if not metadata:
        todo = "the store, or what is between, must keep user metadata: chains are made of it"
        return wrong(check, "the object's metadata is not what was written", todo)
    return ok(check, "body and metadata are read as they were written")


def missing(*, found: bool) -> CheckFinding:
    if found:
        return wrong("sink.head", "the store has an object where there is none", "use another store")
    return ok("sink.head", "a name that is free is told from one that is forbidden (HEAD answers 404)")


def encryption(config: Config) -> Iterator[CheckFinding]:
    """How objects are encrypted; ask for it only after an object was written and read."""
    s3 = config.s3
    if s3.encryption == "none":
        return
    key = f" with key {s3.kms_key_id}" if s3.kms_key_id else ""
    rights = ": kms:GenerateDataKey and kms:Decrypt are granted" if s3.encryption == "aws:kms" else ""
    yield ok("sink.encryption", f"written and read as {s3.encryption}{key}{rights}")


def space(free: int, config: Config, found: Estimate | None) -> CheckFinding:
    """Whether a directory has enough free space."""
    a_day = found.objects * found.object_bytes if found is not None else 0
    seen = f"{size(free)} free"
    if free < max(_MIN_FREE_BYTES, config.batch.memory):
        return wrong("sink.space", seen, "make room: on a full disk nothing lands, and records are buffered")
    if a_day and free < 7 * a_day:
        return note("sink.space", f"{seen}, and about {size(a_day)} come a day", "make room, or remove what was loaded")
    return ok("sink.space", seen)
