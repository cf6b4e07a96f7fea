"""Which environment variable gives the region of AWS: the SDKs read one of these, and each its own."""

from collections.abc import Mapping

REGION_VARIABLES = ("AWS_REGION", "AWS_DEFAULT_REGION")


def region_variable(environ: Mapping[str, str]) -> str | None:
    """The first of `REGION_VARIABLES` that is set and not empty; None if neither is."""
    return next((name for name in REGION_VARIABLES if environ.get(name)), None)
