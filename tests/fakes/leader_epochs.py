"""The leader epochs of a partition's log, as a broker keeps them."""

from ingestd.core.records import EpochEnd


class LeaderEpochs:
    """Where each epoch with records begins in the log. Truncations end epochs, elections begin them."""

    def __init__(self) -> None:
        self.current = 0
        self._starts: list[tuple[int, int]] = []  # (epoch, first offset), ascending

    def elect(self, log_end: int) -> None:
        """A leader whose log ends at `log_end` is elected: later records of the former leader are gone."""
        self.current += 1
        self._starts = [(epoch, start) for epoch, start in self._starts if start < log_end]

    def replace(self, other: "LeaderEpochs") -> None:
        """A leader with the log of another replica is elected."""
        self.current += 1
        self._starts = list(other._starts)

    def append(self, log_end: int) -> None:
        """A batch is written at the log's end. Its first offsets may hold no record."""
        if not self._starts or self._starts[-1][0] != self.current:
            self._starts.append((self.current, log_end))

    def trim(self, log_start: int) -> None:
        """Retention has removed the records before `log_start`, and with them the epochs that ended there."""
        gone = [epoch for epoch, start in self._starts if start <= log_start]
        if gone:
            self._starts = [(gone[-1], log_start), *self._starts[len(gone) :]]

    def at(self, offset: int) -> int:
        """The epoch of the record at `offset`."""
        return max(epoch for epoch, start in self._starts if start <= offset)

    def end(self, epoch: int, log_end: int) -> EpochEnd:
        """The broker's answer to OffsetForLeaderEpoch."""
        if epoch > self.current:
            return EpochEnd(-1, -1)
        if epoch == self.current:
            return EpochEnd(epoch, log_end)
        known = max((each for each, _ in self._starts if each <= epoch), default=epoch)
        return EpochEnd(known, min((start for each, start in self._starts if each > epoch), default=log_end))
