"""Trains the propensity model on simulated history, and measures it on clients that it has not seen.

    python -m benchmarks.propensity train --version 2      # writes ingestd/features/model.json
    python -m benchmarks.propensity measure                # writes propensity.md and .png in benchmarks/results

Each takes a few minutes. `measure` measures the model in the package, as the SQL of its features and of its score.
"""

import argparse
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from benchmarks.propensity import report
from benchmarks.propensity.sample import ACTIVITY, DAYS, Sample, draw
from benchmarks.propensity.training import FEATURES, fit
from ingestd.config.model import SimulatorConfig
from ingestd.config.types import Rate

MODEL = Path(__file__).parents[2] / "ingestd" / "features" / "model.json"
RESULTS = Path(__file__).parents[1] / "results"
FIRM = SimulatorConfig(clients=20_000, rate=Rate(8))  # 17 events for each client in 30 days, in the mean
TRAINED, OTHER = 1, 2  # seeds
STARTS = {TRAINED: datetime(2025, 2, 24, tzinfo=UTC), OTHER: datetime(2026, 9, 3, tzinfo=UTC)}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.propensity", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train")
    train.add_argument("--version", required=True, help="of the model that is written")
    measure = commands.add_parser("measure")
    measure.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.command == "train":
        model = fit(sample(TRAINED), options.version, described(TRAINED))
        MODEL.write_bytes(msgspec.json.format(msgspec.json.encode(model), indent=2) + b"\n")
        print(f"wrote {MODEL}")
    else:
        samples = {described(seed): sample(seed).held() for seed in (TRAINED, OTHER)}
        report.write(samples, options.results)
        print(report.page(samples))


def sample(seed: int) -> Sample:
    config = msgspec.structs.replace(FIRM, seed=seed)
    return draw(config, round(STARTS[seed].timestamp() * 1000), (*FEATURES, ACTIVITY))


def described(seed: int) -> str:
    firm = f"{FIRM.clients} clients, {FIRM.rate:g} events a minute"
    return f"simulator, seed {seed}, {firm}, {DAYS} days from {STARTS[seed]:%Y-%m-%d}"


if __name__ == "__main__":
    main()
