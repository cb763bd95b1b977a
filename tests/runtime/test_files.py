"""Files and folders are replaced whole or not at all."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from poisonjax.runtime import files

KILLED = """
import os, pathlib, signal, sys
from poisonjax.runtime import files
os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
files.write_atomic(pathlib.Path(sys.argv[1]) / "record", "new")
"""


def folder(path: Path, content: str) -> Path:
    (path / "nested").mkdir(parents=True)
    (path / "nested" / "file").write_text(content)
    return path


def content(path: Path) -> dict[str, str]:
    return {str(file.relative_to(path)): file.read_text() for file in path.rglob("*") if file.is_file()}


def test_published_folder_replaces_the_old_one_and_leaves_nothing_beside_it(tmp_path):
    for text in ("first", "second"):
        files.publish(folder(tmp_path / "new", text), tmp_path / "parent" / "target")
        assert content(tmp_path) == {"parent/target/nested/file": text}


def test_failed_publication_puts_the_old_folder_back(tmp_path, monkeypatch):
    new, target, rename = folder(tmp_path / "new", "new"), folder(tmp_path / "target", "old"), Path.rename

    def full(path, to):
        if path == new:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(OSError, match="No space left"):
        files.publish(new, target)
    assert content(tmp_path) == {"target/nested/file": "old", "new/nested/file": "new"}


def test_publication_syncs_every_file_before_the_rename(tmp_path, monkeypatch):
    synced, rename = [], Path.rename
    monkeypatch.setattr(files, "sync", synced.append)
    monkeypatch.setattr(Path, "rename", lambda path, to: (synced.append("rename"), rename(path, to)))
    new = folder(tmp_path / "new", "x")
    files.publish(new, tmp_path / "target")
    assert set(synced[:3]) == {new, new / "nested", new / "nested" / "file"}
    assert synced[3:] == ["rename", tmp_path]


def test_killed_write_leaves_the_old_file_and_a_leftover_that_is_listed(tmp_path):
    (tmp_path / "record").write_text("old")
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    assert subprocess.run(command, cwd=Path(__file__).parents[2]).returncode == -9
    (left,) = files.leftovers(tmp_path / "record")
    assert content(tmp_path) == {"record": "old", left.name: "new"}


def test_buffers_are_written_in_order(tmp_path):
    files.write_atomic(tmp_path / "record", iter([b"ab", memoryview(b"cd")]))
    assert (tmp_path / "record").read_bytes() == b"abcd"
