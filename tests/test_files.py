"""Files are written whole or not at all; a folder is changed by one process at a time."""

import errno
import os
import shutil
import threading
import zipfile
import zlib
from types import SimpleNamespace

import pytest

from kd_lib import files
from kd_lib.files import is_damage, lock, write_json, writing


def names(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_file_is_written_whole_and_its_folder_made(tmp_path):
    path = tmp_path / "new" / "folder" / "file.txt"
    with writing(path) as temporary:
        assert temporary.parent == path.parent and not path.exists()
        temporary.write_text("whole")
    assert path.read_text() == "whole" and names(tmp_path) == ["file.txt"]


@pytest.mark.parametrize(
    "error", [ValueError("no"), KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")]
)
def test_a_failing_write_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(type(error)), writing(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old" and names(tmp_path) == ["file.txt"]


def test_a_failing_rename_leaves_the_old_file_and_says_what_to_do(tmp_path, monkeypatch):
    def full(source, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "file.txt"
    path.write_text("old")
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(
        OSError, match="Could not write .*file.txt: No space left.*Free some space.*same command"
    ) as caught:
        write_json(path, {"new": 1})
    assert caught.value.errno == errno.ENOSPC
    assert path.read_text() == "old" and names(tmp_path) == ["file.txt"]


def test_a_disk_without_room_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    with pytest.raises(OSError, match="No space left.*Free some space"), writing(tmp_path / "file", size=1001):
        pytest.fail("it should not have begun")
    with writing(tmp_path / "file", size=1000) as temporary:
        temporary.write_text("fits")
    assert names(tmp_path) == ["file"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("a file where a folder should be")
    with pytest.raises(OSError, match="Could not write .*file/inside.json.*permissions"):
        write_json(tmp_path / "file" / "inside.json", {})


def test_who_comes_second_waits_until_the_first_is_done(tmp_path):
    entered = threading.Event()

    def second():
        with lock(tmp_path / "folder"):
            entered.set()

    with lock(tmp_path / "folder"):
        thread = threading.Thread(target=second)
        thread.start()
        assert not entered.wait(0.2)
    assert entered.wait(10)
    thread.join()
    assert names(tmp_path) == []


def test_what_another_process_is_writing_stays_and_what_a_killed_one_left_goes(tmp_path):
    left = tmp_path / ".writing-abcdefghold.json"
    left.write_text("half")
    day_before = left.stat().st_mtime - files.ABANDONED - 60
    os.utime(left, (day_before, day_before))
    with writing(tmp_path / "file.txt") as temporary:
        temporary.write_text("whole")
        with lock(tmp_path):
            assert temporary.exists() and not left.exists()
    assert (tmp_path / "file.txt").read_text() == "whole" and names(tmp_path) == ["file.txt"]


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.EACCES, errno.EPERM, errno.ENOMEM, errno.EIO])
def test_what_the_machine_refuses_is_no_damage_of_the_file(number):
    assert not is_damage(OSError(number, os.strerror(number))) and not is_damage(MemoryError())


@pytest.mark.parametrize(
    "error", [ValueError(), EOFError(), KeyError("0000"), zlib.error(), zipfile.BadZipFile(), OSError("no HDF5 file")]
)
def test_what_a_reader_does_not_understand_is_damage(error):
    assert is_damage(error) and is_damage(FileNotFoundError(errno.ENOENT, "a part is missing"))


def test_an_error_gives_the_folder_free(tmp_path):
    with pytest.raises(ValueError, match="broken"), lock(tmp_path):
        raise ValueError("broken")
    with lock(tmp_path):
        pass
