"""Files are complete or absent, whatever ends the process that writes them."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT

from skcoft._utils import files
from skcoft._utils.files import atomic_write, file_keys, find_file, index_files, remove_stale

posix = pytest.mark.skipif(os.name == "nt", reason="needs POSIX")
SLOW_WRITER = """
import os, sys, time
def wait(descriptor):
    print("writing", flush=True)
    time.sleep(60)
os.fsync = wait
from skcoft._utils.files import atomic_write
atomic_write(sys.argv[1], b"never complete")
"""


@pytest.fixture
def writer(tmp_path):
    """A process that has written its temporary file and not yet renamed it."""
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_WRITER, str(tmp_path / "a.csv")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "writing\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path):
    (tmp_path / "a.csv").write_text("before")
    atomic_write(tmp_path / "a.csv", b"after")
    assert (tmp_path / "a.csv").read_text() == "after" and names(tmp_path) == ["a.csv"]


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), SystemExit()]
)
def test_a_write_that_fails_leaves_the_earlier_file_and_no_other(tmp_path, monkeypatch, error):
    def fail(descriptor):
        raise error

    (tmp_path / "a.csv").write_text("before")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(type(error)) as raised:
        atomic_write(tmp_path / "a.csv", b"after")
    assert (tmp_path / "a.csv").read_text() == "before" and names(tmp_path) == ["a.csv"]
    if isinstance(error, OSError):  # the message names the file that the user asked for
        assert str(raised.value) == f"[Errno 28] No space left on device: '{tmp_path}/a.csv'"


@posix
def test_what_a_killed_process_left_is_removed_by_the_next_write(writer, tmp_path):
    (temporary,) = names(tmp_path)
    assert temporary.endswith(".part")
    atomic_write(tmp_path / "a.csv", b"of another process")
    assert temporary in names(tmp_path)  # its process is alive
    writer.kill()
    writer.wait()
    atomic_write(tmp_path / "a.csv", b"of another process")
    assert names(tmp_path) == ["a.csv"]


def test_files_of_other_machines_are_removed_when_they_are_old(tmp_path):
    other = tmp_path / ".skcoft-0123abcd-1-ffff.part"
    mine = [tmp_path / name for name in ("a.part", ".skcoft-note.part", "b.csv.part")]
    for file in (other, *mine):
        file.touch()
        os.utime(file, (0, 0))
    os.utime(other)
    remove_stale(tmp_path)
    assert other.exists()
    day_ago = time.time() - files.MAX_SECONDS_OF_WRITING - 60
    os.utime(other, (day_ago, day_ago))
    remove_stale(tmp_path)
    assert not other.exists() and all(file.exists() for file in mine)
    remove_stale(tmp_path / "none")


@posix
def test_links_to_a_file_are_that_file(tmp_path):
    file = tmp_path / "a"
    file.touch()
    (tmp_path / "soft").symlink_to("a")
    os.link(file, tmp_path / "hard")
    (tmp_path / "folder").symlink_to(tmp_path)
    index = index_files([(file, "the file")])
    for name in ("a", "soft", "hard", "folder/hard", "../" + tmp_path.name + "/a"):
        assert find_file(tmp_path / name, index) == "the file"
    (tmp_path / "other").touch()
    for name in ("other", "none"):
        assert find_file(tmp_path / name, index) is None
    assert find_file(tmp_path / "none", index_files([(tmp_path / "none", "it")])) == "it"
    assert len(file_keys(tmp_path)) == 1  # a folder


@posix
def test_the_file_behind_a_link_is_replaced(tmp_path):
    (tmp_path / "b").mkdir()
    Path(tmp_path, "b/file").write_text("before")
    (tmp_path / "link").symlink_to("b/file")
    atomic_write(tmp_path / "link", b"after")
    assert (tmp_path / "b/file").read_text() == "after" and (tmp_path / "link").is_symlink()


@posix
def test_a_live_writer_that_is_terminated_by_default_leaves_a_file_for_the_next(writer, tmp_path):
    """A script of a user does not handle SIGTERM, so its file is left, and removed later."""
    writer.send_signal(signal.SIGTERM)
    assert writer.wait() == -signal.SIGTERM
    assert len(names(tmp_path)) == 1
    remove_stale(tmp_path)
    assert names(tmp_path) == []
