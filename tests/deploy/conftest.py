"""Daemons for the tests of this folder, as in those of `e2e`."""

from tests.e2e.conftest import make_daemon

__all__ = ["make_daemon"]
