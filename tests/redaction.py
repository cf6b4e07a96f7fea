"""A redaction of its own for one test, in every module that uses the process's."""

import sys

import pytest

from ingestd.config.secrets import Redaction


def fresh_redaction(monkeypatch: pytest.MonkeyPatch) -> Redaction:
    redaction = Redaction()
    for name, module in list(sys.modules.items()):
        if name.startswith("ingestd.") and hasattr(module, "REDACTION"):
            monkeypatch.setattr(module, "REDACTION", redaction)
    return redaction
