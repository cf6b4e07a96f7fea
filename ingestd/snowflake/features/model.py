"""The propensity model: a logistic regression with its coefficients in model.json."""

from importlib.resources import files
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Share = Annotated[float, Meta(ge=0, le=1)]


class Term(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One term of the logit: the coefficient times the transformed feature. A NULL feature counts as 0."""

    feature: Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]*\Z", max_length=64)]
    transform: Literal["identity", "log1p"]
    coefficient: float


class PropensityModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The contents of model.json: the model of `outcome`, and the propensities from which to call or mail a client."""

    version: Annotated[str, Meta(pattern=r"^[\w.-]{1,64}\Z")]
    outcome: str
    trained_on: str
    intercept: float
    terms: Annotated[tuple[Term, ...], Meta(min_length=1, max_length=100)]
    call_from: Share
    mail_from: Share


def _load() -> PropensityModel:
    return msgspec.json.decode(
        files("ingestd.snowflake.features").joinpath("model.json").read_bytes(), type=PropensityModel
    )


MODEL = _load()
