"""One broker for all workers of a run: whoever asks first has it started by the process that started the workers.

A broker of each worker's own would cost as much CPU time again for every worker: it is slow while it is young.
"""

import os
import tempfile
import threading
from contextlib import ExitStack, suppress
from multiprocessing.connection import Client, Listener
from pathlib import Path
from typing import NamedTuple

from tests.services.kafka import KafkaBroker, SecuredKafka
from tests.services.ports import HOST


class Door(NamedTuple):
    """Where to ask for the broker."""

    address: tuple[str, int]
    key: bytes


class SharedBroker:
    """Answers workers. The broker ends with it."""

    def __init__(self) -> None:
        self._undo = ExitStack()
        self._found: SecuredKafka | Exception | None = None
        key = os.urandom(32)
        # A port, because the file of a socket would be left where the run is killed.
        self._listener = Listener((HOST, 0), authkey=key)
        self.door = Door((HOST, self._listener.address[1]), key)
        threading.Thread(target=self._serve, name="shared-broker", daemon=True).start()

    def close(self) -> None:
        """Stop the broker, if there is one. Nobody may ask any more."""
        self._undo.close()

    def _serve(self) -> None:
        while True:
            with suppress(OSError, EOFError), self._listener.accept() as connection:  # of a worker that has ended
                connection.send(self._broker())

    def _broker(self) -> SecuredKafka | Exception:
        if self._found is None:
            directory = Path(self._undo.enter_context(tempfile.TemporaryDirectory(prefix="ingestd-kafka-")))
            try:
                self._found = self._undo.enter_context(KafkaBroker(directory, tls=True)).secured
            except Exception as error:  # noqa: BLE001 - every worker's test is to say it
                self._found = error
        return self._found


def ask(door: Door) -> SecuredKafka:
    """The broker, which runs. Raises what its start raised."""
    with Client(door.address, authkey=door.key) as connection:
        found: SecuredKafka | Exception = connection.recv()
    if isinstance(found, Exception):
        raise found
    return found
