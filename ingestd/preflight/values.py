"""What `ingestd check` says of settings that are valid and do not go together. Pure."""

from collections.abc import Iterator, Mapping

from ingestd.capacity.estimate import DAY_S, Estimate
from ingestd.config.keys import variable
from ingestd.config.model import Config
from ingestd.config.types import Size
from ingestd.core.aws_region import REGION_VARIABLES, region_variable
from ingestd.core.batch import Batch
from ingestd.core.formatting import number, size
from ingestd.core.sink_url import parse_sink_url
from ingestd.preflight import CheckFinding, note, ok
from ingestd.preflight.cluster import is_local

_LOOPBACK = {"127.0.0.1", "localhost", "::1"}


def findings(config: Config) -> Iterator[CheckFinding]:
    """What the settings alone show."""
    found = [*_times(config), *_exposed(config), *_risks(config)]
    yield from found or [ok("settings", "no two of them conflict")]


def _times(config: Config) -> Iterator[CheckFinding]:
    attempt = config.s3.put_timeout
    shorter = [
        words
        for words, seconds in {
            f"grace = {config.grace}": config.grace,
            f"half of kafka.rebalance_timeout = {config.kafka.rebalance_timeout}": config.kafka.rebalance_timeout / 2,
        }.items()
        if seconds < attempt
    ]
    if parse_sink_url(config.sink.url).kind == "s3" and shorter:
        yield note(
            "settings.put_timeout",
            f"one attempt at a PUT may take s3.put_timeout = {attempt}, longer than {' and '.join(shorter)}: where S3 "
            "hangs, a stop or a rebalance leaves records behind, to be read again",
            "a shorter s3.put_timeout avoids it, where your uplink takes a batch within that",
        )
    if config.health.stall < config.sink.retry_max:
        yield note(
            "settings.stall",
            f"health.stall = {config.health.stall} is shorter than sink.retry_max = {config.sink.retry_max}: one long "
            "wait between two tries makes /readyz fail",
            "give a longer health.stall",
        )
    if config.health.progress_timeout < config.batch.interval:
        yield note(
            "settings.progress",
            f"health.progress_timeout = {config.health.progress_timeout} is shorter than batch.interval",
            "give a longer one, or the source is rebuilt for nothing",
        )


def _exposed(config: Config) -> Iterator[CheckFinding]:
    health, endpoint = config.health, config.s3.endpoint_url
    if health.enabled and health.host not in _LOOPBACK:
        page = " and sees the page, with events on it" if config.page.enabled else ""
        seen = f"health.host = {health.host}: whoever reaches port {health.port} reads /status and /metrics{page}"
        yield note("settings.health", seen, "there is no password on it: keep it within your network")
    if (
        endpoint is not None
        and endpoint.startswith("http://")
        and not is_local(endpoint.removeprefix("http://").split("/")[0])
    ):
        yield note("settings.s3", f"s3.endpoint_url = {endpoint}: events travel unencrypted", "use https://")


def _risks(config: Config) -> Iterator[CheckFinding]:
    if config.kafka.skip_lost:
        seen = "kafka.skip_lost = true: records that retention removes are skipped with a log line and a count"
        yield note("settings.skip_lost", seen, "unset it once the gap that it is for is recorded")
    if config.events.tombstones == "row" and "key" not in config.events.include:
        seen = "events.tombstones = row without the key: a tombstone's row does not say what was deleted"
        yield note("settings.tombstones", seen, 'add "key" to events.include')
    if config.breaker.max_share >= 1:
        yield note(
            "settings.breaker", "breaker.max_share = 1: a topic of nothing but bad events drains into quarantine"
        )
    if config.sink.delivery != "exactly-once":
        seen = "sink.delivery = at-least-once: a crash or a rebalance at the wrong moment writes rows twice"
        yield note("settings.delivery", seen, "remove duplicates downstream, by topic, partition and offset")


def region(config: Config, origin: str, environ: Mapping[str, str]) -> Iterator[CheckFinding]:
    """Which region the requests to S3 are signed for, who set it, and which other setting it overrides."""
    if parse_sink_url(config.sink.url).kind != "s3":
        return
    check, used = "settings.region", config.s3.region
    if used is None:
        yield ok(check, "s3.region is not set: AWS' configuration file gives it, else it is us-east-1")
        return
    seen = f"s3.region = {used} from {variable('s3.region') if origin == 'environment' else origin}"
    others = [name for name in REGION_VARIABLES if environ.get(name, used) not in {"", used} and name != origin]
    if not others:
        yield ok(check, seen)
        return
    seen += "; not used: " + ", ".join(f"{name} = {environ[name]}" for name in others)
    yield note(check, seen, "unset one, or set s3.region") if origin == region_variable(environ) else ok(check, seen)


def memory(config: Config, partitions: int, members: int, found: Estimate | None) -> CheckFinding:
    """Whether ``batch.memory`` lets batches reach their size. `members` are the processes that run now."""
    processes = max(1, members)
    mine = -(-partitions // processes)
    compressed = rows = 0.0
    if found is not None:
        a_day = found.objects * found.object_bytes / partitions
        compressed = min(config.batch.bytes, a_day * config.batch.interval / DAY_S)
        rows = compressed * found.row_bytes / max(1, found.objects * found.object_bytes)
    needed = Size(2 * mine * Batch.expected_bytes(rows, compressed))
    seen = f"batch.memory = {config.batch.memory} for {number(mine, 'partition')} in a process"
    if needed > config.batch.memory:
        return note(
            "settings.memory",
            f"{seen}, which need about {size(needed)}: batches are flushed early, and objects get smaller",
            f"give batch.memory = {Size(-(-needed // 2**20) * 2**20)}, or run more processes",
        )
    return ok("settings.memory", f"{seen}, which need about {size(needed)}")
