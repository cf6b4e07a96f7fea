"""Numbers, sizes, times and foreign text as people read them. Pure."""


def number(count: int, one: str, many: str = "") -> str:
    """``1 record``, ``2,000 records``; `many` where the plural is irregular."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def size(count: float) -> str:
    """Bytes: ``512 B``, ``1.5 MiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def clock(seconds: float) -> str:
    """``0:07``, ``1:02:03``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def clean(text: str) -> str:
    """Without what a terminal would obey: names and errors come from outside."""
    return "".join(char if char.isprintable() else " " for char in text)
