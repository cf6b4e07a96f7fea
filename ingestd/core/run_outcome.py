"""What a run has delivered and proven, and the exit code that follows from it. Pure."""

import msgspec

from ingestd.core.errors import EXIT_INTERRUPTED, EXIT_PROBLEMS, DeadlineExceeded


class RunOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """The state at the end of a run that no error has ended."""

    began: bool  # the store and the source were reached
    interrupted: bool  # a signal came before that
    consumed: int  # records that were read
    held_records: int = 0  # read, and not landed
    undone: str = ""  # what has landed and the source was not told
    unprocessed: str = ""  # what subscribers have left undone
    trouble: str = ""  # what the source or the store fails with
    verified: bool | None = None  # None: the proof was cut off
    to_verify: bool = False

    @property
    def was_interrupted(self) -> bool:
        return self.interrupted and not self.began

    @property
    def lacks_proof(self) -> bool:
        """Whether the proof was wanted, and cut off after everything else was done."""
        return self.to_verify and self.verified is None and self.began and not self._undone

    @property
    def why(self) -> str:
        return f": {self.trouble}" if self.trouble else ""

    @property
    def exit_code(self) -> int:
        """0 only where everything was delivered, and proven if that was wanted. Raises ``DeadlineExceeded``."""
        if self.was_interrupted:
            return EXIT_INTERRUPTED
        if self._undone:
            raise self._undone
        return EXIT_PROBLEMS if self.to_verify and not self.verified else 0

    @property
    def _undone(self) -> DeadlineExceeded | None:
        """What is left to do, and what becomes of it."""
        if self.held_records:
            return DeadlineExceeded(
                f"stopped with {self.held_records} records undelivered", hint="they will be read again"
            )
        if not self.began:
            return DeadlineExceeded(f"stopped before the stream began{self.why}", hint="nothing was read")
        if self.trouble and not self.consumed:
            return DeadlineExceeded(f"stopped without having read a record{self.why}", hint="nothing is lost")
        if self.undone:
            return DeadlineExceeded(
                f"stopped before the source was told of everything: {self.undone}{self.why}",
                hint="the next run continues after them",
            )
        if self.unprocessed:
            return DeadlineExceeded(
                f"stopped before everything was loaded: {self.unprocessed}", hint="the next run loads them"
            )
        return None
