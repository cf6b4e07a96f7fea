"""Formats numbers, sizes, times, tables and foreign text for people. Pure."""

from collections.abc import Collection, Sequence

_DURATION_UNITS = (("d", 86_400), ("h", 3600), ("min", 60))  # seconds each


def number(count: int, one: str, many: str = "") -> str:
    """``1 record``, ``2,000 records``; `many` where the plural is irregular."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def amount(value: float) -> str:
    """A quantity, with a fraction where it is small: ``5,000,000``, ``0.25``."""
    return f"{value:,.0f}" if value >= 100 else f"{value:,.4g}"


def size(count: float) -> str:
    """Bytes: ``512 B``, ``1.5 MiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def clock(seconds: float) -> str:
    """Elapsed time as a clock shows it: ``0:07``, ``1:02:03``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def duration(seconds: float) -> str:
    """A length of time in its largest useful unit: ``45 s``, ``3 min``, ``30 h``, ``4 d``."""
    for unit, length in _DURATION_UNITS:
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def address(host: str, port: int) -> str:
    """A host and a port as URLs have them: an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def clean(text: str) -> str:
    """Replaces characters that would control a terminal: names and errors come from outside."""
    return "".join(char if char.isprintable() else " " for char in text)


def clip(text: str, width: int) -> str:
    """Cuts what is longer than `width` characters, and marks the cut."""
    return text if len(text) <= width else text[: width - 1] + "…"


def table(rows: Sequence[Sequence[str]], *, left: Collection[int] = (0,), ruled: bool = False) -> list[str]:
    """Aligns cells in columns; returns one line a row, without control characters.

    Columns in `left` are aligned to the left, all others to the right. With `ruled` the first row is a header, and a
    line of dashes follows it.
    """
    cells = [[clean(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    if ruled:
        cells.insert(1, ["-" * width for width in widths])
    return ["  ".join(map(_align, row, widths, [i in left for i in range(len(row))])).rstrip() for row in cells]


def _align(cell: str, width: int, to_left: bool) -> str:
    return cell.ljust(width) if to_left else cell.rjust(width)
