"""Keys of sources: read from a file, again when it changes, never shown."""

from pathlib import Path

import pytest

from ingestd.collect.keys import CHECK_EVERY_S, Keys
from ingestd.config.secrets import REDACTION
from ingestd.core.errors import ConfigError
from tests.collect.edge_world import FakeClock


def write(file: Path, text: str) -> None:
    """As secret stores do it: another file takes the name."""
    other = file.with_suffix(".new")
    other.write_text(text)
    other.replace(file)


def test_a_file_has_one_key_or_two(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    write(file, "# new\n\n first-key \r\nsecond-key\n")
    keys = Keys(file)
    assert keys.all() == (b"first-key", b"second-key")
    assert keys.matches("first-key")
    assert keys.matches("second-key")
    for wrong in ("", "first", "first-key2", "# new", "first-key\nsecond-key", "ä", "\ud800"):
        assert not keys.matches(wrong)
    assert "first-key" not in REDACTION.clean("with first-key in it")


@pytest.mark.parametrize("content", [b"", b"\n", b"# a\n", b"a\nb\nc\n", b"\xff\n", b"x" * 70_000])
def test_a_useless_file_is_a_configuration_error_without_its_content(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "keys"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=str(file)) as error:
        Keys(file)
    assert "xxx" not in str(error.value)


def test_a_missing_file_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        Keys(tmp_path / "none")


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    file, clock = tmp_path / "keys", FakeClock()
    write(file, "old-key")
    keys = Keys(file, clock)
    write(file, "old-key\nnew-key")
    assert not keys.matches("new-key")
    clock.now += CHECK_EVERY_S
    assert keys.matches("new-key")
    assert keys.matches("old-key")
    write(file, "new-key")
    clock.now += CHECK_EVERY_S
    assert not keys.matches("old-key")


def test_keys_stay_valid_while_the_changed_file_cannot_be_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, clock = tmp_path / "keys", FakeClock()
    write(file, "old-key")
    keys = Keys(file, clock)
    write(file, "a-key\nb-key\nc-key")
    for _ in range(3):
        clock.now += CHECK_EVERY_S
        assert keys.matches("old-key")
    file.unlink()
    clock.now += CHECK_EVERY_S
    assert keys.matches("old-key")
    assert caplog.text.count("stay valid") == 2
    assert "a-key" not in caplog.text
    write(file, "new-key")
    clock.now += CHECK_EVERY_S
    assert keys.matches("new-key")
    assert not keys.matches("old-key")
