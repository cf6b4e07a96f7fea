"""The propensity model as one SQL expression."""

from typing import NamedTuple

from ingestd.snowflake.features.model import MODEL, PropensityModel, Term


class Udf(NamedTuple):
    """A scalar function: `body` is an expression over its arguments, in Snowflake's dialect."""

    name: str  # lower case
    arguments: tuple[tuple[str, str], ...]  # name and type
    returns: str
    body: str
    comment: str


def score(model: PropensityModel) -> Udf:
    """Returns the propensity, 0 to 1, as a SQL function of the features that the model uses."""
    names = tuple(dict.fromkeys(term.feature for term in model.terms))
    logit = "\n    ".join([repr(model.intercept), *map(_term, model.terms)])
    return Udf(
        "propensity_to_invest",
        tuple((name, "FLOAT") for name in names),
        "FLOAT",
        f"1 / (1 + EXP(-(\n    {logit}\n)))",
        f"How likely it is that a client has {model.outcome}; model {model.version}",
    )


def _term(term: Term) -> str:
    value = f"COALESCE({term.feature}, 0)::FLOAT"
    if term.transform == "log1p":
        value = f"LN(1 + {value})"
    return f"{'-' if term.coefficient < 0 else '+'} {abs(term.coefficient)!r} * {value}"


SCORE = score(MODEL)
