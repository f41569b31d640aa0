"""Random hostile folders through ``load_folder`` and the commands, until a time is over.

Run ``python tests/fuzz/fuzz_folders.py --seconds 120 --seed 0``. Every round has its own seed. It
fails if a command raises an error or shows a traceback, changes a file of the folder, writes
anything but its outputs, leaves a half-written file, or writes a table without a row per image.
"""

import argparse
import csv
import hashlib
import io
import os
import sys
import time
import traceback
import warnings
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from skcoft import COFTDetector
from skcoft._cli import main
from skcoft.datasets import load_folder, make_plates
from skcoft.datasets._files import SYSTEM_NAMES
from skcoft.datasets._selection import select_to_score

PLAIN_FOLDERS = """
good GOOD Normal ok ok_front not_good bad NG defect crack scratch new 2024-05-01 monday train Train
train_images TEST test test_public test_private validation val ground_truth GroundTruth gt Masks
mask bad_masks label Labels annotations depth xyz rgb Images Data
""".split()
HOSTILE_FOLDERS = [
    *"__MACOSX @eaDir .hidden x.png -o --normal 100% a,b =1+1 'quote\" $(x) ä 日本".split(),
    *[
        "a;b",
        "{0}",
        "\udcff",
        "a b",
        " ",
        "a\nb",
        "\x1b[31mred",
        "tab\t",
        "back\\slash",
        "n" * 200,
    ],
]
STEMS = [
    *"0 1 2 000 001 1_mask 2_GT 000_mask mask_1 1_label a A ä 日本 =cmd @x +1 -1".split(),
    *"a,b %s {x} ._1 .hidden Thumbs x.y.z \udcfe".split(),
    *["\"q ' ", " ", "a b", "a\nb", "a\rb", "\x1b]0;t\x07", "\u202egnp", "s" * 200],
]
PLAIN_SUFFIXES = ".png .png .png .PNG .jpg .jfif .tif .bmp .gif .webp".split()
OTHER_SUFFIXES = [
    *".JPEG .TIFF .avif .tga .ppm .mpo .dib .jp2 .ico .txt .csv .npy .pdf .heic .db".split(),
    *[".png.txt", ".eps", ".svg", ".PN\udcff", ""],
]
MODES = "RGB RGB RGB L LA RGBA P 1 I;16 F CMYK".split()
SIZES = (64, 64), (64, 64), (64, 64), (48, 64), (64, 20), (9, 9), (1, 1), (1, 200)
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".tif": "TIFF", ".bmp": "BMP", ".webp": "WEBP"}
FROZEN = "--backbone", "embedded", "--iterations", "0", "--max-pixels", "4096", "--device", "cpu"


class FolderWriter:
    """Write a random folder with a seed."""

    def __init__(self, root, seed, plates):
        self.root, self.plates = root, plates
        self.rng = np.random.default_rng(seed)
        self.files, self.folders = [], [root]

    def pick(self, choices):
        return choices[self.rng.integers(len(choices))]

    def write(self):
        self.root.mkdir()
        is_tidy = self.rng.random() < 0.5  # then there are layouts, and fits that succeed
        for _ in range(self.rng.integers(1, 8)):
            parent = self.pick(self.folders)
            folder = parent / self.pick(PLAIN_FOLDERS + (not is_tidy) * HOSTILE_FOLDERS)
            if make_folder(folder):
                self.folders.append(folder)
        for _ in range(self.rng.integers(1, 30)):
            stem = f"{self.rng.integers(1000):03d}" if is_tidy else self.pick(STEMS)
            suffix = self.pick(PLAIN_SUFFIXES + (not is_tidy) * OTHER_SUFFIXES)
            path = self.pick(self.folders) / (stem + suffix)
            if os.path.lexists(path) or len(os.fsencode(path.name)) > 255:
                continue
            damage = self.rng.random() < (0.03 if is_tidy else 0.3)
            self.damaged_file(path) if damage else self.image(path)
            self.files.append(path)
        for _ in range(self.rng.integers(0, 4)):
            self.link(self.pick(self.folders) / (self.pick(STEMS) + self.pick(["", ".png"])))

    def image(self, path):
        image = Image.fromarray(self.pick(self.plates))
        if self.rng.random() < 0.3:
            mode = self.pick(MODES)
            image = image.convert("I").convert("I;16") if mode == "I;16" else image.convert(mode)
            image = image.resize(self.pick(SIZES), Image.Resampling.NEAREST)
        names = [FORMATS.get(path.suffix.lower()), *FORMATS.values()]
        for name in filter(None, names):
            try:
                image.save(path, name)
                return
            except (OSError, ValueError):  # no such mode in this format
                continue

    def damaged_file(self, path):
        kind = self.rng.integers(5)
        if kind == 0:
            path.touch()
        elif kind == 1:
            path.write_bytes(self.rng.bytes(self.rng.integers(1, 2000)))
        elif kind == 2:
            path.write_text("no image\n")
        else:
            self.image(path)
            content = bytearray(path.read_bytes())
            if kind == 3:
                content = content[: self.rng.integers(1, len(content))]
            else:
                content[self.rng.integers(len(content))] ^= 0xFF
            path.write_bytes(content)

    def link(self, path):
        if os.path.lexists(path) or len(os.fsencode(path.name)) > 255:
            return
        targets = [*self.files, *self.folders, self.root.parent, path, self.root / "none.png"]
        target = self.pick(targets)
        if target in self.files and self.rng.random() < 0.3 and target.is_file():
            os.link(target, path)
        else:
            path.symlink_to(target)


def make_folder(path):
    try:
        path.mkdir()
    except OSError:  # exists, or the path is too long
        return False
    return True


def state_of(root):
    """Name, kind, time and content of everything below a folder."""
    state = {}
    for folder, folders, files in os.walk(root):
        for name in [*folders, *files]:
            path = os.path.join(folder, name)
            info = os.lstat(path)
            content = None
            if os.path.islink(path):
                content = os.readlink(path)
            elif os.path.isfile(path):
                content = hashlib.sha256(Path(path).read_bytes()).hexdigest()
            state[path] = info.st_mode, info.st_mtime_ns, info.st_ino, content
    return state


def run(*arguments):
    """Run a command; return its exit code and what it printed."""
    output = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace")
    with redirect_stdout(output), redirect_stderr(output):
        code = main([*map(str, arguments)])
    output.seek(0)
    return code, output.read()


def check(condition, message):
    if not condition:
        raise AssertionError(message)


def check_folder(root, counts):
    """load_folder: every image once, none twice, nothing lost without a count."""
    try:
        data = load_folder(root)
    except (ValueError, OSError) as error:
        counts[f"load_folder: {type(error).__name__}"] += 1
        return
    counts["load_folder: done"] += 1
    check(len(set(data.paths)) == len(data.paths), "a path is listed twice")
    check(all(map(os.path.isfile, data.paths)), "a path is no file")
    check(not set(data.paths) & set(filter(None, data.masks)), "a mask is an image")
    lengths = {len(values) for values in (data.kinds, data.masks, data.split, data.paths)}
    check(len(lengths) == 1, "lengths differ")
    check(data.labels is None or set(data.labels) <= {-1, 0, 1}, "another label")
    n_files = sum(not file.startswith(".") for file in visible_files(root))
    check(n_files <= len(data.paths) + sum(data.skipped.values()), "a file is lost")


def visible_files(root):
    """Yield the names of the files below a folder, except in hidden and system folders."""
    for _, folders, files in os.walk(root):
        folders[:] = [f for f in folders if f[0] != "." and f.casefold() not in SYSTEM_NAMES]
        yield from files


def check_commands(root, output, model, counts):
    """fit, score and report: exit codes, files and rows."""
    code, text = run("fit", root, "-o", output / "m", *FROZEN)
    counts[f"fit: {code}"] += 1
    check((output / "m").exists() == (code == 0), f"fit: {code} and the model file disagree")
    texts = [text]
    outputs = "--maps", output / "maps", "--regions", output / "regions.csv"
    code, text = run("score", model, root, "-o", output / "s.csv", *outputs)
    counts[f"score: {code}"] += 1
    check((output / "s.csv").exists() or code == 2, "score: no table")
    if code != 2:
        with open(output / "s.csv", newline="", encoding="utf-8", errors="replace") as file:
            rows = list(csv.DictReader(file))
        n_images = len(select_to_score(root, None).paths)
        check(len(rows) == n_images, f"{len(rows)} rows for {n_images} images")
        n_maps = sum(len(files) for _, _, files in os.walk(output / "maps"))
        n_read = sum(not row["error"] for row in rows)
        check(n_maps == n_read, f"{n_maps} maps of {n_read} images")
        check(code == (n_read < len(rows)), f"score: {code}, {n_read} of {len(rows)} read")
        counts["images"] += n_images
    texts.append(text)
    code, text = run("report", model, root, "-o", output / "r.html", "--worst", 2)
    counts[f"report: {code}"] += 1
    check((output / "r.html").exists() == (code != 2), f"report: {code} and the file disagree")
    printed = "".join([*texts, text])
    check("Traceback" not in printed, "a traceback")
    check("\x1b" not in printed, "an escape sequence of a file name reaches the terminal")


def fuzz_round(seed, model, plates, counts):
    """Write a folder, run all on it, and compare the files before and after."""
    with TemporaryDirectory() as place:
        place = Path(place)
        root, output = place / "set", place / "out"
        FolderWriter(root, seed, plates).write()
        output.mkdir()
        before = state_of(root)
        check_folder(root, counts)
        check_commands(root, output, model, counts)
        check(state_of(root) == before, "a file of the folder was changed")
        names = set(os.listdir(output)) | set(os.listdir(place))
        allowed = {"m", "s.csv", "maps", "regions.csv", "r.html", "set", "out"}
        check(names <= allowed, f"other files: {names - allowed}")
        parts = [name for _, _, files in os.walk(place) for name in files if ".part" in name]
        check(not parts, f"half-written files: {parts}")


def fuzz(seconds, seed):
    """Run rounds until the time is over; return the number that failed."""
    warnings.simplefilter("ignore")
    plates = make_plates(10, 4, size=64, random_state=0).images
    counts, failures, first = Counter(), Counter(), None
    stop = time.monotonic() + seconds
    with TemporaryDirectory() as folder:
        model = Path(folder, "model")
        COFTDetector("embedded", max_iter=0, random_state=0).fit(plates[:6]).save(model)
        while time.monotonic() < stop:
            counts["rounds"] += 1
            try:
                fuzz_round(seed, model, plates, counts)
            except Exception as error:  # any is a finding
                failures[f"{type(error).__name__}: {error}"] += 1
                if first is None:
                    first = seed
                    traceback.print_exc()
            seed += 1
    for name in sorted(counts):
        print(f"{name:40} {counts[name]}")
    for message, count in failures.most_common():
        print(f"FAILED {count} times: {message!a}")
    print("no failure" if first is None else f"first failing seed: {first}")
    return sum(failures.values())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    sys.exit(bool(fuzz(options.seconds, options.seed)))
