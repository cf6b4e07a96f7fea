"""The process: ``ingestd`` and ``python -m ingestd``. Receives signals before anything that takes long is imported."""

import os
import sys

from ingestd.ops.stop_signals import STOP_SIGNALS


def main() -> int:
    """Run the command line; returns the exit code."""
    STOP_SIGNALS.install()
    from ingestd.cli.main import main  # noqa: PLC0415  slow to import

    code = main()
    if "snowflake.connector" in sys.modules:
        _leave(code)
    return code


def _leave(code: int) -> None:
    """End without the interpreter's own end, where Snowflake's threads crash (snowflakedb/drivers#960)."""
    import contextlib  # noqa: PLC0415  as above
    import logging  # noqa: PLC0415

    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # its reader has gone
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
