"""What a command has done decides its exit code, not its messages, nor how it is ended."""

import errno
import io
import os
import signal
import subprocess
import sys
import warnings
from copy import copy

import pytest
from conftest import ROOT
from PIL import Image

from skcoft._cli import main
from skcoft.report import score_images

posix = pytest.mark.skipif(os.name == "nt", reason="needs POSIX")
HOSTILE = "a\x1b]0;title\x07\n\u202egnp.\u2028"


@pytest.fixture
def work(work):
    """The same with two new images, and with a folder in which a file is unreadable."""
    (work / "new/8.png").unlink()
    (work / "bad").mkdir()
    (work / "bad/6.png").write_bytes((work / "new/6.png").read_bytes())
    (work / "bad/no.png").write_text("no image")
    return work


SCORE = ["score", "m.skcoft", "bad", "-o", "s.csv"]
FIT = "fit normal -o n.skcoft --backbone embedded --iterations 0".split()


def dead_stream(kind):
    """A stream whose reader is gone, whose disk is full, or that is closed."""
    if kind == "full":
        return open("/dev/full", "w")
    if kind == "closed":
        stream = io.StringIO()
        stream.close()
        return stream
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w")


@posix
@pytest.mark.parametrize("kind", ["full", "pipe", "closed", "none"])
def test_messages_that_cannot_be_printed_change_nothing(work, monkeypatch, kind):
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, None if kind == "none" else dead_stream(kind))
    assert main(SCORE) == 1  # one image is unreadable
    assert len((work / "s.csv").read_text().splitlines()) == 3
    assert main(FIT) == 0 and (work / "n.skcoft").is_file()
    assert main(["score", "m.skcoft", "none", "-o", "t.csv"]) == 2


@posix
def test_the_exit_code_of_the_process_is_that_of_the_work(work):
    """Python itself flushes at exit, and would change the code to 120."""
    reader, writer = os.pipe()
    os.close(reader)
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "skcoft", *SCORE],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=full,
            stderr=writer,
        )
    os.close(writer)
    assert done.returncode == 1 and (work / "s.csv").is_file()


def test_a_console_shows_what_it_cannot_encode_as_an_escape(work, monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    assert main(["score", "m.skcoft", "new", "-o", "geprüft.csv"]) == 0
    assert stream.buffer.getvalue().startswith(rb"gepr\xfcft.csv: 2 images")
    assert stream.errors == "strict"


def test_warnings_of_a_run_are_messages_that_never_fail(work, monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    (work / "normal/0.png").rename(work / "normal/ü.png")
    (work / "normal/copy.png").write_bytes((work / "normal/1.png").read_bytes())
    assert main(FIT) == 0
    assert b"warning: X holds a duplicate" in sys.stderr.buffer.getvalue()


# Names and headers


@posix
def test_no_escape_sequence_of_a_file_reaches_the_terminal(work, capsys):
    """Neither from its name nor from its header, in messages, tables and reports."""
    folder = work / f"{HOSTILE}\udcff"
    folder.mkdir()
    for name in (f"{HOSTILE}.png", "=1+1.png", "\udc80.png"):
        (folder / name).write_bytes((work / "new/6.png").read_bytes())
    (folder / f"{HOSTILE}.pgm").write_bytes(b"P5 \x1b[31mred_alert\x07 3 255\n" + bytes(9))
    (folder / "\x1b[2J.png").write_text("no image")
    assert main(["score", "m.skcoft", str(folder), "-o", f"{HOSTILE}.csv"]) == 1
    assert main(["report", "m.skcoft", str(folder), "-o", "r.html"]) == 1
    assert main(["fit", str(folder), "-o", "n.skcoft"]) == 2
    with pytest.raises(SystemExit):
        main(["score", "m.skcoft", "new", HOSTILE, "-o", "t.csv"])
    output, errors = capsys.readouterr()
    page = (work / "r.html").read_text(encoding="utf-8")
    table = (work / f"{HOSTILE}.csv").read_text(encoding="utf-8")
    for text in (output, errors, page, table):
        assert all(line.isprintable() for line in text.split("\n"))
    assert r"\u001b" in table and r"\u202e" in page and "could not be read" in errors


@pytest.fixture
def quoted_header(monkeypatch):
    """The content of a file of a format whose reader quotes its header, as some of Pillow do."""

    def read(file, name):
        warnings.warn(f"strange header {file.read(20).decode()}", UserWarning, stacklevel=1)
        raise ValueError(f"bad header {file.read(20).decode()}")

    monkeypatch.setattr(Image, "ID", [*Image.ID, "QUOTED"])
    monkeypatch.setitem(Image.OPEN, "QUOTED", (read, lambda prefix: prefix.startswith(b"QUOTED")))
    return b"QUOTED \x1b[31m\x07\xe2\x80\xae     " + b"QUOTED \x1b[31m\x07\xe2\x80\xae     "


def test_errors_and_warnings_about_headers_are_safe_to_show(
    inspector, plates, quoted_header, work, capsys
):
    (work / "bad/\x1b.png").write_bytes(quoted_header)
    tolerant = copy(inspector).set_params(on_error="nan")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="strange header")
        for bad in (str(work / "bad/\x1b.png"), quoted_header):
            with pytest.raises(ValueError) as raised:
                inspector.score_samples([bad])
            assert "bad header" in str(raised.value) and str(raised.value).isprintable()
            with pytest.warns(UserWarning) as warned:
                tolerant.predict([plates.images[6], bad])
            ours = [text for w in warned if "bad header" in (text := str(w.message))]
            assert ours and all(text.isprintable() for text in ours)
            errors = score_images(inspector, [plates.images[6], bad]).errors
            assert "bad header" in errors[1] and errors[1].isprintable()
    assert main(SCORE) == 1
    text = capsys.readouterr().err
    assert "warning: strange header" in text and text.replace("\n", "").isprintable()


# Signals and full disks


@posix
@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
@pytest.mark.parametrize(
    "command, n_complete",
    [
        (["score", "m.skcoft", "new", "-o", "s.csv"], 0),
        (["score", "m.skcoft", "new", "-o", "s.csv", "--maps", "maps"], 2),
        (["score", "m.skcoft", "new", "-o", "s.csv", "--regions", "r.csv"], 1),
        (["report", "m.skcoft", "new", "-o", "r.html"], 0),
        (FIT, 0),
    ],
)
def test_a_signal_leaves_complete_files_only(
    work, monkeypatch, capsys, command, n_complete, number, code
):
    before, fsync, count = {p.name for p in work.rglob("*")}, os.fsync, iter(range(9))

    def send(descriptor):
        fsync(descriptor)
        if next(count) == n_complete:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(os, "fsync", send)
    handler = signal.signal(number, signal.SIG_DFL)  # the tests may run under nohup
    try:
        assert main(command) == code
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, handler)
    added = {p.name for p in work.rglob("*") if p.is_file()} - before
    assert len(added) == n_complete - ("maps" in command and n_complete == 2)  # 6.png is a map
    assert not [name for name in added if name.endswith(".part")]
    errors = capsys.readouterr().err
    assert errors.startswith("skcoft: terminated")
    assert ("'s.csv'" in errors) == (n_complete > 0)


@posix
def test_a_process_that_is_terminated_while_it_writes_leaves_nothing(work):
    code = (
        "import os, sys, time\n"
        "os.fsync = lambda descriptor: (print('writing', flush=True), time.sleep(60))\n"
        "from skcoft._cli import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    before = sorted(work.rglob("*"))
    process = subprocess.Popen(
        [sys.executable, "-c", code, "score", "m.skcoft", "new", "-o", "s.csv"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "writing\n"
    assert len(list(work.rglob("*.part"))) == 1
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 143
    assert sorted(work.rglob("*")) == before


@posix
def test_a_signal_that_is_ignored_stays_ignored(work, monkeypatch):
    """As under nohup."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: os.kill(os.getpid(), signal.SIGHUP))
    handler = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert main(SCORE) == 1
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, handler)


def test_a_full_disk_leaves_no_part_of_a_file_and_is_named(work, monkeypatch, capsys):
    fsync, count = os.fsync, iter(range(9))

    def fail(descriptor):
        fsync(descriptor)
        if next(count) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")

    before = {path for path in work.rglob("*") if path.is_file()}
    monkeypatch.setattr(os, "fsync", fail)
    assert main([*SCORE[:2], "new", "-o", "s.csv", "--maps", "maps"]) == 2
    errors = capsys.readouterr().err
    assert "No space left on device" in errors and "6.png" in errors
    assert "Written before: 's.csv'" in errors
    assert {path for path in work.rglob("*") if path.is_file()} - before == {work / "s.csv"}
