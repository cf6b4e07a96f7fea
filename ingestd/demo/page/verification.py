"""The proof at the end of a demo: every record that was taken is in one object, and every row in the table once."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from ingestd.core.counters import Totals
from ingestd.core.errors import IngestdError
from ingestd.core.formatting import number
from ingestd.demo.page.queries import PageQueries
from ingestd.verify.findings import VerifyReport

Verify = Callable[[], Awaitable[VerifyReport]]
"""What `ingestd verify` finds."""

PATIENCE = 60.0  # seconds
MAX_PROBLEMS = 5


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """Whether all is there, in words: what was found good, and what was not."""

    ok: bool
    facts: list[str]
    problems: list[str]

    def text(self) -> str:
        """Lines for a terminal."""
        head = "verified" if self.ok else "NOT WELL"
        lines = [*self.facts, *(f"problem: {problem}" for problem in self.problems)]
        return "".join(f"  {head if line is lines[0] else '':10}  {line}\n" for line in lines)


async def prove(verify: Verify, totals: Totals, questions: PageQueries | None) -> Proof:
    """Look at everything once more, and at the table."""
    try:
        async with asyncio.timeout(PATIENCE):
            report = await verify()
            table = await questions.rows() if questions is not None else None
    except TimeoutError:
        return _unproven(f"it has taken longer than {PATIENCE:g} s")
    except IngestdError as error:
        return _unproven(str(error))
    return conclude(report, totals, table)


def conclude(report: VerifyReport, totals: Totals, table: tuple[int, int] | None) -> Proof:
    """What follows; `table` has so many rows, of which so many are distinct."""
    facts, problems = [], [f"{it.code}: {it.message}" for it in report.problems[:MAX_PROBLEMS]]
    done = totals.landed + totals.quarantined
    if totals.consumed == done:
        facts.append(
            f"{number(totals.consumed, 'record')} taken = {totals.landed:,} landed + {totals.quarantined:,} quarantined"
        )
    else:
        problems.append(f"{number(totals.consumed, 'record')} taken, but {done:,} landed or quarantined")
    rows, objects = report.totals.rows, report.totals.objects
    if report.ok:
        facts.append(f"{number(rows, 'row')} in {number(objects, 'object')}: no gap, no overlap, each record once")
    if table is not None:
        held, distinct = table
        if held == distinct == rows:
            facts.append(f"{number(held, 'row')} in the table: all of them, each once")
        else:
            problems.append(f"the table has {number(held, 'row')}, {distinct:,} of them distinct, the objects {rows:,}")
    return Proof(ok=not problems, facts=facts, problems=problems)


def _unproven(why: str) -> Proof:
    return Proof(ok=False, facts=[], problems=[f"it could not be verified: {why}"])
