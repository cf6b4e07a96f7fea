"""Which tests one worker runs one after the other: those of a file, and of all files that use the same slow service."""

import re
from functools import cache
from pathlib import Path

from xdist.scheduler import LoadFileScheduling

ROOT = Path(__file__).parents[1]
#: Fixtures of a session whose services take seconds of CPU to start: each worker that runs a test with one starts it.
SLOW_TO_START = ("registry", "snowflake", "elasticmq", "kinesis_local")
_USES = re.compile(rf"\b({'|'.join(SLOW_TO_START)}): [A-Z]|\"(kinesis_local)\"")


class ByService(LoadFileScheduling):  # type: ignore[misc]  # xdist has no types
    """As ``--dist loadfile``, with files that use a service of `SLOW_TO_START` together."""

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid.partition("::")[0])


@cache
def scope_of(file: str) -> str:
    """The first of `SLOW_TO_START` that a test file uses, else the file."""
    found = _USES.search((ROOT / file).read_text())
    return (found[1] or found[2]) if found else file
