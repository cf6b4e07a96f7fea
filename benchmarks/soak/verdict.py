"""What the samples say: whether memory grows, and how long bursts were felt. Pure."""

import math
from collections.abc import Callable, Sequence
from itertools import combinations
from statistics import median
from typing import NamedTuple

from benchmarks.soak.plan import Span
from benchmarks.soak.samples import Sample

WARM_UP = 60.0  # seconds
HALF_MINUTE = 30.0  # what a batch is filled for: within it memory goes up and down
MOST_POINTS = 400
CONFIDENCE_Z = 1.96  # 95 %
GROWTH_MIB = 5.0  # that the run must be sure to have seen, to be called growth
MARGIN = 1.25  # above the largest value of the steady time
CALM = 15.0  # seconds that a value must stay normal to be called so


class Slope(NamedTuple):
    """MiB an hour, with its confidence interval, over so many hours."""

    per_hour: float
    low: float
    high: float
    hours: float

    @property
    def grows(self) -> bool:
        return self.low * self.hours > GROWTH_MIB


class Recovery(NamedTuple):
    """What a burst did to one value. `seconds` after its end it was normal again; None where it was not."""

    burst: Span
    normal: float
    worst: float
    seconds: float | None


def theil_sen(points: Sequence[tuple[float, float]]) -> Slope | None:
    """The median of the slopes between any two points (hours, MiB); Sen's interval. None of fewer than four."""
    slopes = sorted((b[1] - a[1]) / (b[0] - a[0]) for a, b in combinations(points, 2) if b[0] > a[0])
    count = len(points)
    if count < 4 or not slopes:
        return None
    spread = CONFIDENCE_Z * math.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    low = max(0, math.floor((len(slopes) - spread) / 2))
    high = min(len(slopes) - 1, math.ceil((len(slopes) + spread) / 2))
    return Slope(median(slopes), slopes[low], slopes[high], points[-1][0] - points[0][0])


def memory(samples: Sequence[Sample], bursts: Sequence[Span]) -> Slope | None:
    """The slope of one daemon's memory in steady times, once it has been through the first burst.

    What that burst brings in stays, which is no growth: the next one finds it there.
    """
    begin = bursts[0].end + WARM_UP if bursts else WARM_UP
    calm = [
        it
        for it in samples
        if it.phase == "steady"
        and it.second >= begin
        and not any(b.begin <= it.second < b.end + WARM_UP for b in bursts)
    ]
    if not calm:
        return None
    width = max(HALF_MINUTE, (calm[-1].second - calm[0].second) / MOST_POINTS)
    windows: dict[int, list[Sample]] = {}
    for sample in calm:
        windows.setdefault(int(sample.second / width), []).append(sample)
    # Those that a burst or the end has cut short are in another place of the batch's interval.
    whole = [those for those in windows.values() if len(those) >= 0.8 * width]
    return theil_sen([(those[0].second / 3600, median(it.rss_mib for it in those)) for those in whole])


def recoveries(samples: Sequence[Sample], bursts: Sequence[Span], value: Callable[[Sample], float]) -> list[Recovery]:
    """How each burst went, by one value of the samples; normal is what it was before the first."""
    if not bursts:
        return []
    before = [value(it) for it in samples if WARM_UP <= it.second < bursts[0].begin]
    normal = MARGIN * max(before, default=0.0)
    ends = [*(burst.begin for burst in bursts[1:]), math.inf]
    found = []
    for burst, until in zip(bursts, ends, strict=True):
        during = [it for it in samples if burst.begin <= it.second < until and it.phase != "end"]
        worst = max((value(it) for it in during), default=0.0)
        found.append(Recovery(burst, normal, worst, _calm_after(during, burst.end, normal, value)))
    return found


def _calm_after(samples: Sequence[Sample], end: float, normal: float, value: Callable[[Sample], float]) -> float | None:
    since: float | None = None
    for sample in samples:
        if sample.second < end:
            continue
        if value(sample) > normal:
            since = None
        elif since is None:
            since = sample.second
        if since is not None and sample.second - since >= CALM:
            return since - end
    return None
