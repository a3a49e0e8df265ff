import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stgraph._files import atomic_dir, atomic_path, check_out_dir, check_out_file
from stgraph.errors import InputError


def test_file_appears_whole(tmp_path):
    target = tmp_path / "new" / "a.txt"
    with atomic_path(target) as tmp:
        tmp.write_text("whole")
        assert tmp.suffix == ".txt"
        assert not target.exists()
    assert target.read_text() == "whole"
    assert os.listdir(target.parent) == ["a.txt"]


def test_failure_leaves_the_old_file(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(target) as tmp:
        tmp.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_files_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        with atomic_path(tmp_path / "a") as tmp:
            tmp.write_text("")
            tmp.chmod(0o600)
        with atomic_dir(tmp_path / "d") as folder:
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "d").stat().st_mode & 0o777 == 0o750
    assert not folder.exists()


def test_folder_is_replaced_only_when_asked(tmp_path):
    target = tmp_path / "out"
    target.mkdir()
    with atomic_dir(target) as folder:  # an empty folder is free
        (folder / "first").touch()
    with pytest.raises(InputError, match="--overwrite"):
        check_out_dir(target, overwrite=False)
    with atomic_dir(target, overwrite=True) as folder:
        (folder / "second").touch()
        assert os.listdir(target) == ["first"]
    assert os.listdir(target) == ["second"]
    assert os.listdir(tmp_path) == ["out"]


def test_failure_leaves_the_old_folder(tmp_path):
    target = tmp_path / "out"
    with atomic_dir(target) as folder:
        (folder / "old").touch()
    with pytest.raises(KeyboardInterrupt), atomic_dir(target, overwrite=True) as folder:
        raise KeyboardInterrupt
    assert os.listdir(target) == ["old"]
    assert os.listdir(tmp_path) == ["out"]


def test_out_may_not_be_a_file(tmp_path):
    (tmp_path / "f").touch()
    with pytest.raises(InputError, match="is a file"), atomic_dir(tmp_path / "f", overwrite=True):
        pass


def test_kill_leaves_no_result(tmp_path):
    code = (
        "import sys, time\nfrom stgraph._files import atomic_dir\n"
        "with atomic_dir(sys.argv[1]) as folder:\n"
        "    (folder / 'half').touch(); print('ready', flush=True); time.sleep(60)"
    )
    target = tmp_path / "out"
    process = subprocess.Popen([sys.executable, "-c", code, str(target)], stdout=subprocess.PIPE)
    process.stdout.readline()
    process.kill()
    process.communicate()
    time.sleep(0.01)
    assert not target.exists()


def test_a_failing_move_puts_the_old_folder_back(tmp_path, monkeypatch):
    target = tmp_path / "out"
    with atomic_dir(target) as folder:
        (folder / "old").touch()
    replace = Path.replace

    def fail_once_for_the_new(self, other):
        if self.name.endswith(".tmp"):
            raise OSError("disk gone")
        return replace(self, other)

    monkeypatch.setattr(Path, "replace", fail_once_for_the_new)
    with pytest.raises(OSError, match="disk gone"), atomic_dir(target, overwrite=True) as folder:
        (folder / "new").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "old"]


def test_a_link_to_a_folder_stays_a_link(tmp_path):
    with atomic_dir(tmp_path / "disk" / "run") as folder:
        (folder / "old").touch()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "disk" / "run")
    with atomic_dir(link, overwrite=True) as folder:
        (folder / "new").touch()
    assert link.is_symlink()
    assert [path.name for path in link.iterdir()] == ["new"]
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["run"]


def test_failure_leaves_no_new_parents(tmp_path):
    (tmp_path / "here").mkdir()
    with pytest.raises(RuntimeError), atomic_dir(tmp_path / "here" / "new" / "deep" / "out"):
        raise RuntimeError
    assert [path.name for path in tmp_path.rglob("*")] == ["here"]


def test_the_folder_one_is_in_cannot_be_replaced(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "mine").touch()
    monkeypatch.chdir(tmp_path / "here")
    for path in (Path(), Path(".."), tmp_path):
        with pytest.raises(InputError, match="the folder you are in"):
            check_out_dir(path, overwrite=True)


def test_a_folder_one_may_not_write_to_is_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    for check in (check_out_dir, check_out_file):
        with pytest.raises(InputError, match="not a folder you may write to"):
            check(tmp_path / "new" / "out", overwrite=False)
