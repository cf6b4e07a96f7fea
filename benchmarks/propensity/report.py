"""How well the propensity orders clients, and whether it means what it says: a page and a picture."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, roc_auc_score, roc_curve

from benchmarks.propensity.sample import ACTIVITY, HORIZON, Sample
from ingestd.snowflake.features.model import MODEL

_BINS = 10
_RESAMPLED = 100


class Interval(NamedTuple):
    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def write(samples: Mapping[str, Sample], directory: Path) -> None:
    """propensity.md and propensity.png."""
    directory.mkdir(parents=True, exist_ok=True)
    draw(samples, directory / "propensity.png")
    (directory / "propensity.md").write_text(page(samples))


def page(samples: Mapping[str, Sample]) -> str:
    lines = [
        "# Propensity to invest",
        "",
        "Made by `python -m benchmarks.propensity measure`, on simulated clients: it shows that the features and the",
        "score do what they are for, and says nothing about the clients of a real firm.",
        "",
        f"- Model: version {MODEL.version}, trained on {MODEL.trained_on}",
        f"- Outcome: {MODEL.outcome}",
        "- Clients: those that were held out of the training, each at up to 24 times: where it had an event in 30 days",
        "- In brackets: 95 % of what other clients would give",
        f"- Logit: {MODEL.intercept:g} "
        + " ".join(
            f"{'+-'[term.coefficient < 0]} {abs(term.coefficient):g} ln(1 + {term.feature})" for term in MODEL.terms
        ),
        "",
        "![ROC curve and calibration](propensity.png)",
    ]
    for name, sample in samples.items():
        lines += [
            "",
            f"## {name[0].upper()}{name[1:]}",
            "",
            *_measures(sample),
            "",
            *_calibration(sample),
            "",
            *_actions(sample),
        ]
    return "\n".join(lines) + "\n"


def _measures(sample: Sample) -> list[str]:
    invested, propensity = sample.invested, sample.propensity
    base = float(invested.mean())
    spread = base * (1 - base)
    slope, intercept = recalibrated(sample)
    facts = {
        "Clients, rows": f"{len(set(sample.client_id)):,}, {len(invested):,}",
        f"Who invests within {HORIZON} days": f"{base:.2%}",
        **aucs(sample),
        "Brier score; of always saying the mean": f"{brier_score_loss(invested, propensity):.5f}; {spread:.5f}",
        "Mean propensity": f"{float(propensity.mean()):.2%}",
        "Calibration slope and intercept, 1 and 0 at best": f"{slope:.2f} and {intercept:+.2f}",
        "Calibration error, mean over ten bins": f"{calibration_error(sample):.2%}",
    }
    return ["| What | Measured |", "|---|---|", *(f"| {name} | {value} |" for name, value in facts.items())]


def _calibration(sample: Sample) -> list[str]:
    rows = [f"| {n + 1} | {p:.2%} | {o:.2%} |" for n, (o, p) in enumerate(zip(*bins(sample), strict=True))]
    return ["| Tenth of the rows | Predicted | Observed |", "|---:|---:|---:|", *rows]


def _actions(sample: Sample) -> list[str]:
    base = sample.invested.mean()
    rows = []
    for action in ("call", "follow_up", "mail", "wait"):
        chosen = sample.invested[sample.action == action]
        rate = float(chosen.mean()) if len(chosen) else math.nan
        rows.append(f"| {action} | {len(chosen) / len(sample.invested):.1%} | {rate:.2%} | {rate / base:.1f} |")
    return ["| Next best action | Rows | Who invests | Times the mean |", "|---|---:|---:|---:|", *rows]


# -- measures


def aucs(sample: Sample) -> dict[str, Interval]:
    """Where 95 % of each would be when other clients had been drawn, too; a client's rows stay together."""
    rng = np.random.default_rng(0)
    _, number = np.unique(sample.client_id, return_inverse=True)
    clients = int(number.max()) + 1
    drawn = [np.bincount(rng.integers(clients, size=clients), minlength=clients)[number] for _ in range(_RESAMPLED)]
    values = [_aucs(sample, weights) for weights in drawn]
    intervals = {}
    for name, value in _aucs(sample, np.ones(len(number))).items():
        low, high = (float(np.quantile([other[name] for other in values], share)) for share in (0.025, 0.975))
        intervals[name] = Interval(value, low, high)
    return intervals


def _aucs(sample: Sample, weights: Any) -> dict[str, float]:
    orders = (sample.propensity, sample.features[ACTIVITY], sample.truth)
    ours, activity, truth = (float(roc_auc_score(sample.invested, it, sample_weight=weights)) for it in orders)
    return {
        "AUC of the propensity": ours,
        "AUC of the number of events in 30 days": activity,
        "What the propensity gains over it": ours - activity,
        "AUC of the hidden truth, which is the most there is": truth,
    }


def bins(sample: Sample) -> tuple[Any, Any]:
    """What was observed and what was predicted, of each tenth of the rows by propensity."""
    observed, predicted = calibration_curve(sample.invested, sample.propensity, n_bins=_BINS, strategy="quantile")
    return observed, predicted


def calibration_error(sample: Sample) -> float:
    observed, predicted = bins(sample)
    return float(np.abs(observed - predicted).mean())


def recalibrated(sample: Sample) -> tuple[float, float]:
    """Slope and intercept of the logit that would fit what was observed best."""
    logit = np.log(sample.propensity / (1 - sample.propensity)).reshape(-1, 1)
    fit = LogisticRegression(C=np.inf).fit(logit, sample.invested)
    return float(fit.coef_[0][0]), float(fit.intercept_[0])


# -- picture


def draw(samples: Mapping[str, Sample], file: Path) -> None:
    """A PNG, of 960 pixels across."""
    figure = Figure(figsize=(12, 5.5), layout="constrained")  # without a screen, and without the library's global state
    roc, calibration = figure.subplots(1, 2)
    for (name, sample), colour in zip(samples.items(), ("tab:blue", "tab:orange"), strict=False):
        label = ", ".join(name.split(", ")[:2])
        false, true, _ = roc_curve(sample.invested, sample.propensity)
        roc.plot(false, true, color=colour, label=f"propensity; {label}")
        false, true, _ = roc_curve(sample.invested, sample.truth)
        roc.plot(false, true, color=colour, linestyle=":", label=f"hidden truth; {label}")
        observed, predicted = bins(sample)
        calibration.plot(predicted, observed, color=colour, marker="o", label=label)
    roc.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
    roc.set(
        xlabel="share of those who did not invest", ylabel="share of those who did", title="Above a threshold (ROC)"
    )
    most = max(calibration.get_xlim()[1], calibration.get_ylim()[1])
    calibration.plot([0, most], [0, most], color="grey", linewidth=0.8)
    calibration.set(xlabel="predicted", ylabel="observed", title="Calibration, by tenths of the rows")
    for panel in (roc, calibration):
        panel.legend(frameon=False)
        panel.grid(alpha=0.3)
    figure.savefig(file, dpi=80)
