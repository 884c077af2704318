from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from hdt.system import folders
from hdt.system.errors import InputError


def own(folder: Path) -> set[str]:
    if not (folder / "kind").is_file():
        raise InputError("kind is missing")
    return {"kind", "data"}


def write(folder: Path, text: str, force: bool = False, meanwhile: Callable[[], object] = lambda: None) -> None:
    with folders.one_move(folder, "thing", own, force) as new:
        (new / "kind").touch()
        (new / "data").write_text(text)
        meanwhile()


def replace(file: Path, text: str, error: OSError | None = None) -> None:
    with folders.replacing(file) as part:
        part.write_text(text)
        if error is not None:
            raise error


def content(folder: Path) -> str:
    return (folder / "data").read_text()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_place_that_was_taken_meanwhile_keeps_what_it_has_and_nothing_is_lost(tmp_path: Path) -> None:
    place = tmp_path / "a"
    with pytest.raises(InputError, match=rf"a exists; choose another .* is complete and kept in {tmp_path}/a\.2$"):
        write(place, "second", meanwhile=lambda: write(place, "first"))
    assert (content(place), content(tmp_path / "a.2"), names(tmp_path)) == ("first", "second", ["a", "a.2"])
    with pytest.raises(InputError, match=r"holds what is not hdt's: notes.*kept in .*a\.3$"):
        write(place, "third", True, lambda: (place / "notes").touch())
    assert (content(place), content(tmp_path / "a.3")) == ("first", "third") and (place / "notes").exists()


@pytest.mark.parametrize("force", [False, True])
def test_the_move_itself_fails_where_something_appears(
    force: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the last check and the move."""
    place, usual = tmp_path / "a", Path.rename
    if force:
        write(place, "old")

    def late(self: Path, target: Path) -> Path:
        if self.name == folders.NEW and target == place:
            place.mkdir()
            (place / "data").write_text("other's")
        return usual(self, target)

    monkeypatch.setattr(Path, "rename", late)
    with pytest.raises(InputError, match=r"a: Directory not empty; this thing is complete and kept in .*a\.2$"):
        write(place, "mine", force)
    assert (content(place), content(tmp_path / "a.2"), names(tmp_path)) == ("other's", "mine", ["a", "a.2"])


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), KeyboardInterrupt()])
def test_a_folder_that_cannot_be_replaced_is_put_back(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, usual = tmp_path / "a", Path.rename
    write(place, "old")

    def failing(self: Path, target: Path) -> Path:
        if self.name == folders.NEW:
            raise error
        return usual(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises((InputError, KeyboardInterrupt)) as caught:
        write(place, "new", force=True)
    assert content(place) == "old" and names(tmp_path) == ["a"]
    assert isinstance(caught.value, KeyboardInterrupt) or "a: cannot write the thing (Input/output" in str(caught.value)


def test_what_cannot_be_put_back_now_is_put_back_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, usual = tmp_path / "a", Path.rename
    write(place, "old")

    def failing(self: Path, target: Path) -> Path:
        if target == place:
            raise OSError(5, "Input/output error")
        return usual(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(InputError, match="cannot write the thing"):
        write(place, "new", force=True)
    monkeypatch.undo()
    with pytest.raises(InputError, match="a exists"):
        write(place, "newer")
    assert content(place) == "old" and names(tmp_path) == ["a"]


def test_a_link_stands_for_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    link = tmp_path / "link"
    link.symlink_to("far/a")
    write(link, "first")  # a link to nothing yet
    with pytest.raises(InputError, match="link exists"):
        write(link, "second")
    write(link, "third", force=True)
    assert link.readlink() == Path("far/a") and content(tmp_path / "far" / "a") == "third"
    assert names(tmp_path) == ["far", "link"] and names(tmp_path / "far") == ["a"]
    (tmp_path / "circle").symlink_to("circle")
    for force in (False, True):
        with pytest.raises(InputError, match="circle exists"):
            write(tmp_path / "circle", "", force)


def test_leftovers_block_nothing_and_are_taken_away_unless_somebody_works_there(tmp_path: Path) -> None:
    place = tmp_path / "a"
    write(place, "old")
    (tmp_path / ".a.old").mkdir()  # of earlier versions, and not to be touched
    (tmp_path / ".a.old" / "data").touch()
    for name in (".a.01234567", ".a.89abcdef"):
        (tmp_path / name / "new").mkdir(parents=True)
    (tmp_path / ".a.0123456").mkdir()
    (tmp_path / ".aa.01234567").mkdir()
    with folders.staging(place) as alive:
        write(place, "new", force=True)
        assert alive.is_dir()
    assert content(place) == "new" and names(tmp_path) == [".a.0123456", ".a.old", ".aa.01234567", "a"]


def test_threads_do_not_meet(tmp_path: Path) -> None:
    errors: list[str] = []

    def work(number: int) -> None:
        try:
            write(tmp_path / "a", str(number))
        except InputError as error:
            errors.append(str(error))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = names(tmp_path)
    assert "a" in found and len(found) + sum("kept in" not in error for error in errors) == 8
    assert len({content(tmp_path / name) for name in found}) == len(found)


def test_a_stage_that_was_taken_for_abandoned_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process may come between a stage and its lock."""
    usual, taken = folders._lock, []

    def slow(folder: Path) -> int:
        if not taken:
            taken.append(folder)
            folder.rmdir()
        return usual(folder)

    monkeypatch.setattr(folders, "_lock", slow)
    write(tmp_path / "a", "text")
    assert content(tmp_path / "a") == "text" and names(tmp_path) == ["a"]


def test_without_locks_nothing_is_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    (tmp_path / ".a.01234567").mkdir()
    monkeypatch.setattr(folders.fcntl, "flock", unsupported)
    write(tmp_path / "a", "text")
    assert names(tmp_path) == [".a.01234567", "a"]
    monkeypatch.setattr(folders, "fcntl", None)
    write(tmp_path / "a", "text", force=True)
    assert names(tmp_path) == [".a.01234567", "a"]


def test_a_name_that_is_too_long_is_refused_before_the_work(tmp_path: Path) -> None:
    for name in ("x" * 250, "x" * 300):
        with pytest.raises(InputError, match="File name too long"):
            folders.check_target(tmp_path / name, "thing", own, False)
    folders.check_target(tmp_path / ("x" * 240), "thing", own, False)


def test_a_file_is_replaced_in_one_move(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text("old")
    with pytest.raises(OSError, match="No space"):
        replace(file, "half", OSError(28, "No space left on device"))
    assert file.read_text() == "old" and names(tmp_path) == ["a.json"]
    with folders.replacing(file) as part:
        part.write_text("new")
        assert file.read_text() == "old" and part.suffix == ".json"
    assert file.read_text() == "new" and names(tmp_path) == ["a.json"]
    assert os.stat(file).st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
