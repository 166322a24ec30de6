"""A directory takes the place of another in one step."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from exported import contents

from edgecap.export import atomic
from edgecap.export.atomic import replace_directory


def directory(path: Path, text: str) -> Path:
    (path / "deep").mkdir(parents=True)
    (path / "deep" / "file").write_text(text)
    return path


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_directory_takes_the_place_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_exchange: bool
) -> None:
    if not can_exchange:
        monkeypatch.setattr(atomic, "_exchange", lambda first, second: False)
    target = tmp_path / "target"
    for text in ("first", "second", "third"):
        replace_directory(directory(tmp_path / "new", text), target)
        assert contents(tmp_path) == {"target/deep/file": text.encode()}
        assert [path.name for path in tmp_path.iterdir()] == ["target"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="renameat2 is Linux's")
def test_on_linux_two_directories_change_places_at_once(tmp_path: Path) -> None:
    first, second = directory(tmp_path / "first", "1"), directory(tmp_path / "second", "2")
    assert atomic._exchange(first, second)
    assert contents(tmp_path) == {"first/deep/file": b"2", "second/deep/file": b"1"}
    assert not atomic._exchange(first, tmp_path / "nowhere")


def test_without_exchange_a_move_that_fails_puts_the_old_directory_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new, target = directory(tmp_path / "new", "new"), directory(tmp_path / "target", "old")
    real = Path.rename

    def rename(path: Path, to: Path) -> Path:
        if path == new:
            raise OSError("the disk is gone")
        return real(path, to)

    monkeypatch.setattr(atomic, "_exchange", lambda first, second: False)
    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(OSError, match="the disk is gone"):
        replace_directory(new, target)
    assert (target / "deep" / "file").read_text() == "old"
