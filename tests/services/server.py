"""The life of a service on the loopback interface, whatever its program: started, frozen, killed, started again."""

from pathlib import Path
from typing import Self

from tests.services.process import Process, require_mark


class Server:
    """A server of our own, from ``with`` to its end. Subclasses say what its process is and whether it answers."""

    name: str

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._process: Process | None = None  # from the first start on

    def prepare(self) -> Process:
        """Make what it needs in its directory, before its first start; the process, which is not started yet."""
        raise NotImplementedError

    def ready(self) -> bool:
        """Whether it answers."""
        raise NotImplementedError

    @property
    def running(self) -> bool:
        """Whether the server's process is alive."""
        return self._process is not None and self._process.running

    @property
    def pid(self) -> int:
        """Of the server's process, which was started once."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start the server, or start it again, and wait until it answers."""
        require_mark(self.name)
        if self._process is None:
            self._process = self.prepare()
        self._process.start(self.ready)

    def stop(self) -> bool:
        """Shut it down in an orderly way; False where it had to be killed."""
        return self._process is None or self._process.stop()

    def kill(self) -> None:
        """End it at once (SIGKILL)."""
        if self._process is not None:
            self._process.kill()

    def restart(self) -> None:
        """Shut it down, if it runs, and start it again."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Stop its clock (SIGSTOP): connections stay open and nothing is answered."""
        assert self._process is not None
        self._process.freeze()

    def thaw(self) -> None:
        """Let it go on (SIGCONT)."""
        assert self._process is not None
        self._process.thaw()

    def remove(self) -> None:
        """End it with SIGKILL, for good; the log stays."""
        self.kill()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()
