"""The process: ``ingestd`` and ``python -m ingestd``. Receives signals before anything that takes long is imported."""

import sys

from ingestd.ops.stop_signals import STOP_SIGNALS


def main() -> int:
    """Run the command line; returns the exit code."""
    STOP_SIGNALS.install()
    from ingestd.cli.main import main  # noqa: PLC0415  slow to import

    return main()


if __name__ == "__main__":
    sys.exit(main())
