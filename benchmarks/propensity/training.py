"""Makes the model: a logistic regression on some of the features."""

import numpy as np
from sklearn.linear_model import LogisticRegression

from benchmarks.propensity.sample import HORIZON, Sample
from ingestd.snowflake.features.model import PropensityModel, Term

#: More of them gain less than 0.005 of AUC, and the signs of their coefficients say nothing to people any more.
FEATURES = ("web_visits_30d", "email_opens_30d", "email_clicks_30d", "advisor_calls_30d")
_DIGITS = 4
_CALL, _MAIL = 0.95, 0.75  # an advisor can call one client of twenty; mail goes to the upper quarter


def fit(sample: Sample, version: str, trained_on: str) -> PropensityModel:
    """The model that is learned from the clients that are not held out."""
    seen = sample.only(~sample.held_out)
    inputs = np.column_stack([np.log1p(seen.features[name]) for name in FEATURES])
    regression = LogisticRegression(C=np.inf, max_iter=1000).fit(inputs, seen.invested)
    propensities = regression.predict_proba(inputs)[:, 1]
    call_from, mail_from = (round(float(np.quantile(propensities, share)), _DIGITS) for share in (_CALL, _MAIL))
    return PropensityModel(
        version=version,
        outcome=f"an advisor call that ends with an investment, within {HORIZON} days",
        trained_on=trained_on,
        intercept=round(float(regression.intercept_[0]), _DIGITS),
        terms=tuple(
            Term(name, "log1p", round(float(coefficient), _DIGITS))
            for name, coefficient in zip(FEATURES, regression.coef_[0], strict=True)
        ),
        call_from=call_from,
        mail_from=mail_from,
    )
