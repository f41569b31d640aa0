"""The command line: files, output and exit codes."""

import argparse
import csv
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import import_module

import numpy as np
import pytest
from conftest import ROOT
from numpy.testing import assert_array_equal
from PIL import Image

import skcoft
from skcoft import COFTDetector
from skcoft._cli import commands, main
from skcoft._cli.parser import make_parser
from skcoft.datasets import load_folder


@pytest.fixture(scope="session")
def model(inspector, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "plates.skcoft"
    inspector.save(path)
    return str(path)


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_fit_uses_the_normal_training_images(run, plate_folder, inspector, plates, tmp_path):
    frozen = "--backbone", "embedded", "--iterations", 0
    code, output, _ = run("fit", plate_folder, "-o", "m.skcoft", *frozen)
    assert (code, output) == (
        0,
        f"m.skcoft: fitted on 6 images, threshold {inspector.offset_:.6g}\n",
    )
    fitted = COFTDetector.load(tmp_path / "m.skcoft")
    assert_array_equal(fitted.embeddings_, inspector.embeddings_)
    assert (fitted.max_iter, fitted.random_state) == (0, 0)


def test_fit_passes_its_options_to_the_detector(run, plates, tmp_path):
    for i, image in enumerate([*plates.images[:12], plates.images[-1]]):
        folder = tmp_path / ("shots" if i < 6 else "more") / ("fine" if i < 12 else "broken")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{i:02d}.png")
    options = "--max-pixels 40000 --iterations 1 --seed 3 --device cpu --max-fpr 0.2 --normal fine"
    more = "--backbone", "embedded", "--calibrate", "more"
    code, _, errors = run("fit", "shots", "-o", "m", *more, *options.split())
    assert code == 0 and not errors
    fitted = COFTDetector.load("m")
    assert (fitted.max_pixels, fitted.n_iter_, fitted.random_state) == (40000, 1, 3)
    assert fitted.device == "cpu" and len(fitted.embeddings_) == 6
    scores = fitted.score_samples(plates.images[6:12])
    assert fitted.offset_ == scores.min()  # one of seven is at most 0.2


def test_score_writes_the_results_of_the_detector(run, model, plate_folder, inspector):
    code, output, errors = run("score", model, plate_folder, "-o", "scores.csv", "--maps", "maps")
    assert code == 0 and not errors
    data = load_folder(plate_folder)
    test = data.split == "test"
    table = rows("scores.csv")
    names = [row["path"] for row in table]
    assert names == [str(p)[len(str(plate_folder)) + 1 :] for p in data.paths[test]]
    assert_array_equal(
        [float(r["score"]) for r in table], inspector.score_samples(data.paths[test])
    )
    assert_array_equal([int(r["label"]) for r in table], inspector.predict(data.paths[test]))
    assert re.fullmatch(
        rf"scores.csv: 12 images, {sum(r['label'] == '-1' for r in table)} anomalous, area under "
        rf"the ROC curve {inspector.score(data.paths[test], data.labels[test]):.3f}\n",
        output,
    )
    for name, anomaly_map in zip(names, inspector.anomaly_map(data.paths[test]), strict=True):
        with Image.open(f"maps/{name}") as image:
            assert_array_equal(np.asarray(image), np.round(255 * np.clip(anomaly_map / 6, 0, 1)))


def test_an_unreadable_image_has_a_row_and_an_exit_code(run, model, plate_folder, tmp_path):
    shutil.copytree(plate_folder / "test", tmp_path / "new/photos")
    (tmp_path / "new/photos/broken.png").write_text("no image")
    code, output, errors = run("score", model, "new", "-o", "scores.csv", "--maps", "maps")
    assert code == 1
    assert "12 images" in output and "ROC" not in output  # no labels
    assert "1 of 13 images could not be read. Cannot read" in errors and "broken.png" in errors
    (failed,) = [row for row in rows("scores.csv") if row["error"]]
    assert failed["path"] == "photos/broken.png"
    assert (failed["score"], failed["label"]) == ("", "-1")
    assert len(list((tmp_path / "maps").rglob("*.png"))) == 12
    code, _, errors = run("report", model, "new", "-o", "r.html")
    assert code == 1 and "could not be read" in errors
    assert "photos/broken.png" in (tmp_path / "r.html").read_text()


def test_report_shows_the_images_in_the_folder(run, model, plate_folder, tmp_path):
    options = "--shots", plate_folder, "--worst", 2
    code, output, errors = run("report", model, plate_folder, "-o", "r.html", *options)
    page = (tmp_path / "r.html").read_text()
    assert code == 0 and not errors and output.startswith("r.html: 12 images, ")
    assert f"<title>{plate_folder.name}</title>" in page
    assert page.count("<img") == 2 * 3 and "anomalies detected" in page
    assert run("report", model, plate_folder, "-o", "t.html", "--title", "A < B")[0] == 0
    assert "<h1>A &lt; B</h1>" in (tmp_path / "t.html").read_text()


@pytest.mark.parametrize(
    "command, message",
    [
        ("fit nowhere -o m", "There is no folder 'nowhere'"),
        ("fit empty -o m", "'empty' holds no image"),
        ("fit PLATES -o no/m", "--output 'no/m'"),
        ("fit PLATES -o empty", "--output 'empty' is a folder"),
        ("fit PLATES -o m --normal stain", "holds no normal image"),
        ("fit PLATES -o m --max-fpr 0.1", "--max-fpr needs --calibrate"),
        ("fit PLATES -o m --backbone embeded", "embeded"),
        ("fit texts -o m --backbone embedded", "Cannot read 'texts/a.png' as an image"),
        ("fit PLATES -o m --backbone embedded --iterations -1", "'max_iter' parameter"),
        ("score nothing PLATES -o s.csv", "There is no model file"),
        ("score texts/a.png PLATES -o s.csv", "is no model file"),
        ("score MODEL nowhere -o s.csv", "There is no folder 'nowhere'"),
        ("score MODEL texts -o s.csv", "None of the 1 images"),
        ("score MODEL PLATES -o s.csv --normal cow", "normal='cow'"),
        ("score MODEL PLATES -o s.csv --device cude", "device='cude' is not available"),
        ("score MODEL texts -o s.csv --maps texts/maps", "lies in the folder of images 'texts'"),
        ("score MODEL PLATES -o s.csv --maps texts/a.png", "is a file. Pass a folder"),
        ("report MODEL PLATES -o r.html --shots PLATES/test", "shots must be the 6 images of fit"),
        ("report MODEL PLATES -o r.html --worst -1", "worst must be"),
    ],
)
def test_errors_of_the_user_are_one_line(run, model, plate_folder, tmp_path, command, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/a.png").write_text("no image")
    arguments = [
        a.replace("PLATES", str(plate_folder)).replace("MODEL", model) for a in command.split()
    ]
    if "--shots" in arguments:
        shutil.copytree(plate_folder / "test/scratch", tmp_path / "few")
        arguments[-1] = "few"
    code, output, errors = run(*arguments)
    assert (code, output) == (2, "")
    assert re.search(rf"^skcoft: error: .*{re.escape(message)}", errors, re.M)
    assert not {"m", "s.csv", "r.html", "maps"} & {path.name for path in tmp_path.iterdir()}


def test_bugs_are_not_hidden(run, model, plate_folder, monkeypatch):
    monkeypatch.setattr(commands, "score_images", lambda *_, **__: {}[0])
    with pytest.raises(KeyError):
        run("score", model, plate_folder, "-o", "s.csv")


def test_ctrl_c_ends_a_command(run, model, plate_folder, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "score_images", interrupt)
    code, output, errors = run("score", model, plate_folder, "-o", "s.csv")
    assert (code, output, errors) == (130, "", "skcoft: interrupted\n")


def test_wrong_arguments_show_the_usage(run, capsys):
    with pytest.raises(SystemExit) as stopped:
        run("score", "model")
    assert stopped.value.code == 2
    assert "usage: skcoft score" in capsys.readouterr().err


def test_help_texts_are_sentences():
    parser = make_parser()
    (subparsers,) = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    assert list(subparsers.choices) == ["fit", "score", "report"]
    for command in [parser, *subparsers.choices.values()]:
        texts = [a.help for a in command._actions if a.dest not in ("help", "command")]
        texts = [t for t in texts if t is not None] + [command.description, command.epilog]
        for text in texts:
            assert re.match(r"[A-Z].*\.$", text, re.S), text
        assert command.format_help()


def test_the_module_and_the_script_run_the_same_command(tmp_path):
    command = [sys.executable, "-m", "skcoft", "score", "none", "none", "-o", "s.csv"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and not done.stdout
    assert done.stderr.splitlines()[-1] == "skcoft: error: There is no folder 'none'."
    assert "Traceback" not in done.stderr
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, name = scripts["skcoft"].partition(":")
    assert getattr(import_module(module), name) is main


def test_the_version_is_printed(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == skcoft.__version__ + "\n"


def test_the_table_of_regions_has_a_row_per_region(run, model, inspector, plate_folder, tmp_path):
    test = plate_folder / "test"
    code, _, _ = run("score", model, test, "-o", "s.csv", "--regions", "regions.csv")
    assert code == 0
    table = rows(tmp_path / "regions.csv")
    files = sorted(path for path in test.rglob("*.png"))
    named = [(str(f.relative_to(test)), r) for f in files for r in inspector.find_regions([f])[0]]
    assert sorted((row["path"], int(row["top"]), int(row["area"])) for row in table) == sorted(
        (name, region.box[0], region.area) for name, region in named
    )
    code, _, errors = run("score", model, test, "-o", "t.csv", "--regions", "no/r.csv")
    assert code == 2 and "--regions 'no/r.csv'" in errors
    assert not (tmp_path / "t.csv").exists()


def test_a_mask_is_white_inside_the_region_of_interest(run, plate_folder, tmp_path):
    mask = np.zeros((64, 64), dtype=np.uint8)
    mask[16:, 8:] = 255
    Image.fromarray(mask).save("mask.png")
    frozen = "--backbone", "embedded", "--iterations", 0
    code, output, _ = run("fit", plate_folder, "-o", "m.skcoft", "--mask", "mask.png", *frozen)
    assert code == 0 and "mask.png: 65.6% of the image is inside the mask" in output
    assert_array_equal(COFTDetector.load("m.skcoft").mask, mask > 0)
    (tmp_path / "no.png").write_text("text")
    for file, message in (
        ("no.png", "'no.png' (mask) as an image"),
        ("none.png", "'none.png' (mask) does not exist"),
    ):
        code, _, errors = run("fit", plate_folder, "-o", "n.skcoft", "--mask", file, *frozen)
        assert code == 2 and message in errors
    assert not (tmp_path / "n.skcoft").exists()
