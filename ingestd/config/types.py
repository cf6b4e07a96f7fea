"""The value types of the configuration: durations, rates, sizes and secrets, each with its text form."""

import math
import re
from fractions import Fraction
from typing import ClassVar


class Seconds(float):
    """A duration. Text form: ``250ms``, ``30s``, ``5m``, ``2h``, ``90d``, or a number of seconds."""

    __slots__ = ()
    _UNITS: ClassVar = {
        "d": Fraction(86400),
        "h": Fraction(3600),
        "m": Fraction(60),
        "s": Fraction(1),
        "ms": Fraction(1, 1000),
    }

    @classmethod
    def parse(cls, text: str) -> "Seconds":
        """Parse the text form. ValueError if `text` is not a duration."""
        match = re.fullmatch(r"\s*([0-9]{1,15}(?:\.[0-9]{1,20})?)\s*(ms|s|m|h|d)?\s*", text)
        if match is None:
            raise ValueError("not a duration")
        return cls(Fraction(match[1]) * cls._UNITS[match[2] or "s"])

    def __str__(self) -> str:
        if not self or not math.isfinite(self):
            return f"{float(self):g}s"
        exact = Fraction(repr(float(self)))
        for unit, seconds in self._UNITS.items():
            if exact % seconds == 0:
                return f"{exact / seconds}{unit}"
        return f"{float(self):.20f}".rstrip("0") + "s"


class Rate(float):
    """Events per minute. Text form: ``600/min``, ``10/s``, ``36000/h``, or a number of events per minute."""

    __slots__ = ()
    _PER_MINUTE: ClassVar = {"s": Fraction(60), "min": Fraction(1), "h": Fraction(1, 60)}

    @classmethod
    def parse(cls, text: str) -> "Rate":
        """Parse the text form. ValueError if `text` is not a rate."""
        match = re.fullmatch(r"\s*([0-9]{1,15}(?:\.[0-9]{1,20})?)\s*(?:/\s*(s|min|h))?\s*", text)
        if match is None:
            raise ValueError("not a rate")
        return cls(Fraction(match[1]) * cls._PER_MINUTE[match[2] or "min"])

    def __str__(self) -> str:
        text = repr(float(self))
        if not text.replace(".", "").isdigit():
            text = f"{float(self):.20f}"
        return f"{text.rstrip('0').rstrip('.') if '.' in text else text}/min"


class Size(int):
    """A number of bytes. Text form: ``512KiB``, ``32MiB``, ``1GiB`` (or kB, MB, GB), or a number of bytes."""

    _UNITS: ClassVar = {"GiB": 2**30, "MiB": 2**20, "KiB": 2**10, "GB": 10**9, "MB": 10**6, "kB": 10**3, "B": 1}

    @classmethod
    def parse(cls, text: str) -> "Size":
        """Parse the text form. ValueError if `text` is not a size."""
        match = re.fullmatch(r"\s*([0-9]{1,15}(?:\.[0-9]{1,20})?)\s*(B|kB|MB|GB|KiB|MiB|GiB)?\s*", text)
        if match is None:
            raise ValueError("not a size")
        return cls(Fraction(match[1]) * cls._UNITS[match[2] or "B"])

    def __str__(self) -> str:
        for unit, size in self._UNITS.items():
            if self and self % size == 0:
                return f"{self // size}{unit}"
        return "0B"


class Secret:
    """Text that is never shown: only ``reveal()`` returns it.

    Not a `str`: join, concatenation and every encoder would use the plain value of a subclass.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return "<redacted>"

    def __reduce__(self) -> str:
        raise TypeError("a Secret cannot be pickled")
