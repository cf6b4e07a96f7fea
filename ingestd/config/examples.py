"""The configuration files that ship with ingestd, for `ingestd config --example`."""

from importlib.resources import files
from pathlib import Path

REFERENCE = "ingestd"
"""The file that lists every key with its default."""

NAMES = ("collect", "demo", "production", REFERENCE)


def example(name: str = REFERENCE) -> str:
    """The text of the shipped file `name`.toml.

    A wheel has the files in the package, a source tree in its `config` folder.
    """
    file = files("ingestd.config").joinpath("example_files", f"{name}.toml")
    if not file.is_file():
        file = Path(__file__).parents[2] / "config" / f"{name}.toml"
    return file.read_text(encoding="utf-8")
