"""Verifies a demo at its end: every consumed record is in one object, and every row is in the table once."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from ingestd.core.errors import IngestdError
from ingestd.core.formatting import number
from ingestd.demo.page.queries import PageQueries
from ingestd.ops.readiness import Status
from ingestd.verify.findings import VerifyReport

Verify = Callable[[], Awaitable[VerifyReport]]
"""Does what `ingestd verify` does."""

TIMEOUT_S = 60.0
MAX_PROBLEMS = 5


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """The result in words: the facts that were confirmed, and the problems that were found."""

    ok: bool
    facts: list[str]
    problems: list[str]

    def text(self) -> str:
        """The result as lines for a terminal."""
        head = "verified" if self.ok else "PROBLEMS"
        lines = [*self.facts, *(f"problem: {problem}" for problem in self.problems)]
        return "".join(f"  {head if line is lines[0] else '':10}  {line}\n" for line in lines)


async def verify_run(verify: Verify, status: Status, queries: PageQueries | None) -> Verification:
    """Reads the objects and counts the rows of the table, if there is one."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            report = await verify()
            table = await queries.count_rows() if queries is not None else None
    except TimeoutError:
        return _failed(f"it took longer than {TIMEOUT_S:g} s")
    except IngestdError as error:
        return _failed(str(error))
    return conclude(report, status, table)


def conclude(report: VerifyReport, status: Status, table: tuple[int, int] | None) -> Verification:
    """Compares the counts. `table` has the number of its rows, and of distinct records among them."""
    facts, problems = [], _obstacles(status)
    problems += [f"{it.code}: {it.message}" for it in report.problems[:MAX_PROBLEMS]]
    totals = status.totals
    done = totals.landed + totals.quarantined + totals.skipped
    consumed = number(totals.consumed, "record")
    if not totals.consumed:
        problems.insert(0, "nothing was read, so there is nothing to verify")
    elif totals.consumed == done:
        skipped = f" + {totals.skipped:,} skipped" if totals.skipped else ""
        facts.append(f"{consumed} consumed = {totals.landed:,} landed + {totals.quarantined:,} quarantined{skipped}")
    else:
        problems.append(f"{consumed} consumed, but {done:,} landed, quarantined or skipped")
    rows, objects = report.totals.rows, report.totals.objects
    if report.ok:
        facts.append(f"{number(rows, 'row')} in {number(objects, 'object')}: no gap, no overlap, each record once")
    if table is not None:
        loaded, distinct = table
        if loaded == distinct == rows:
            facts.append(f"{number(loaded, 'row')} in the table: all of them, each once")
        else:
            problems.append(
                f"the table has {number(loaded, 'row')}, {distinct:,} of them distinct; the objects have {rows:,}"
            )
    return Verification(ok=not problems, facts=facts, problems=problems)


def _obstacles(status: Status) -> list[str]:
    """Why no records were read, or not all."""
    found = [f"{it.name} was halted: {it.halted}" for it in status.partitions if it.halted is not None][:MAX_PROBLEMS]
    if not status.totals.consumed:
        errors = {"sink": status.sink_error, "source": status.source_error}
        found += [f"{name}: {error}" for name, error in errors.items() if error]
    return found


def _failed(why: str) -> Verification:
    return Verification(ok=False, facts=[], problems=[f"verification failed: {why}"])
