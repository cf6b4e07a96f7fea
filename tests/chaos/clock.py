"""ingestd with a wall clock that is wrong by the seconds in a file, at any moment. Arguments: the file, then ingestd's.

Monotonic clocks stay right, as when a clock is set. In Python, by time-machine, as faketime is not on PyPI as a binary.
"""

import runpy
import sys
import threading
import time
from pathlib import Path

import time_machine


def program(file: Path) -> tuple[str, ...]:
    """What Python is to run, with a clock that is right at first."""
    set_wrong(file, 0)
    return ("-P", __file__, str(file))


def set_wrong(file: Path, seconds: float) -> None:
    """From now on the clock is wrong by so many seconds."""
    new = file.with_suffix(".new")
    new.write_text(str(seconds))
    new.rename(file)


def _follow(file: Path, clock: time_machine.Traveller) -> None:
    wrong = 0.0
    while True:
        before, wrong = wrong, float(file.read_text())
        clock.shift(wrong - before)
        time.sleep(0.02)


def main() -> None:
    """Run ingestd."""
    file = Path(sys.argv.pop(1))
    with time_machine.travel(time.time()) as clock:
        threading.Thread(target=_follow, args=(file, clock), daemon=True).start()
        runpy.run_module("ingestd", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
