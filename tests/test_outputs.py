"""What commands and functions may write: no input, no file twice, no existing file unasked."""

import hashlib
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from skcoft import COFTDetector
from skcoft._cli import main
from skcoft.report import score_images, write_maps, write_regions, write_report, write_scores

POSIX = pytest.mark.skipif(os.name == "nt", reason="needs POSIX")


def contents(folder):
    """The hash of every file, links followed."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture
def refused(work, capsys):
    """Run a command that must change nothing; its message must hold some words."""

    def refused(command, *words):
        before = contents(work)
        assert main(command.split()) == 2
        message = capsys.readouterr().err
        *notes, error = message.splitlines()
        assert error.startswith("skcoft: error: ")
        assert all(note.startswith("skcoft: 'new': ") for note in notes)
        assert all(word in message for word in words), message
        assert contents(work) == before
        return message

    return refused


@pytest.mark.parametrize(
    "command, words",
    [
        ("score m.skcoft new -o m.skcoft", ("--output", "model 'm.skcoft'")),
        ("score m.skcoft new -o new/../m.skcoft", ("--output", "model 'm.skcoft'")),
        ("score m.skcoft new -o new/7.png", ("--output", "folder 'new/7.png'")),
        ("score m.skcoft new -o s.csv --regions s.csv", ("--regions", "--output")),
        ("score m.skcoft new -o s.csv --regions m.skcoft", ("--regions", "model 'm.skcoft'")),
        ("score m.skcoft new -o s.csv --maps normal/../s.csv", ("--maps", "--output 's.csv'")),
        ("score m.skcoft new -o maps --maps maps", ("--maps", "--output 'maps'")),
        ("score m.skcoft new -o normal/7.png --maps normal", ("--maps", "--output")),
        ("report m.skcoft new -o m.skcoft", ("--output", "model 'm.skcoft'")),
        ("report m.skcoft new -o new/7.png", ("--output", "folder 'new/7.png'")),
        ("report m.skcoft new -o normal/0.png --shots normal", ("--output", "--shots 'normal/0")),
        ("fit normal -o normal/0.png", ("--output", "normal_folder 'normal/0.png'")),
        ("fit normal -o new/7.png --calibrate new", ("--output", "--calibrate 'new/7.png'")),
        ("fit normal -o new/7.png --mask new/7.png", ("--output", "--mask 'new/7.png'")),
        ("fit normal -o m.skcoft --weights m.skcoft", ("--output", "--weights 'm.skcoft'")),
    ],
)
def test_no_output_is_an_input_or_another_output(refused, command, words):
    """The message names both arguments, with and without permission to overwrite."""
    refused(command, *words)
    refused(f"{command} --overwrite", *words)


def test_maps_never_replace_the_images_that_links_lead_to(refused, work):
    """A folder of links is scored, and its maps are to lie beside the originals."""
    (work / "links").mkdir()
    for name in ("6.png", "7.png", "8.png"):
        (work / "links" / name).symlink_to(work / "new" / name)
    refused("score m.skcoft links -o s.csv --maps new --overwrite", "--maps", "folder 'links/")


@POSIX
def test_hard_links_and_links_to_inputs_count_as_inputs(refused, work):
    os.link(work / "m.skcoft", work / "hard")
    (work / "soft").symlink_to("m.skcoft")
    os.link(work / "new/6.png", work / "hard.png")
    for name, word in (("hard", "model"), ("soft", "model"), ("hard.png", "folder 'new/6.png'")):
        refused(f"score m.skcoft new -o {name} --overwrite", "--output", word)
    (work / "folder").symlink_to(work / "new")
    refused("score m.skcoft new -o folder/7.png --overwrite", "--output", "new/7.png")
    refused("score m.skcoft new -o s.csv --maps folder --overwrite", "--maps")


def test_images_in_linked_folders_are_inputs(refused, work):
    (work / "originals").mkdir()
    shutil.copy(work / "new/6.png", work / "originals/1.png")
    (work / "new/linked").symlink_to(work / "originals")
    (work / "originals/loop").symlink_to(work / "new")
    refused("score m.skcoft new -o originals/1.png --overwrite", "--output", "new/linked/1.png")
    (work / "maps").mkdir()
    (work / "maps/linked").symlink_to(work / "originals")
    refused("score m.skcoft new -o s.csv --maps maps --overwrite", "maps/linked/1.png")


def test_maps_are_not_written_through_links_that_lead_outside(refused, work):
    (work / "maps").mkdir()
    (work / "outside.png").write_bytes(b"a photograph")
    (work / "maps/7.png").symlink_to(work / "outside.png")
    refused("score m.skcoft new -o s.csv --maps maps --overwrite", "maps/7.png", "outside")
    (work / "maps/7.png").unlink()
    (work / "maps/7.png").symlink_to(work / "not_yet.png")
    refused("score m.skcoft new -o s.csv --maps maps --overwrite", "maps/7.png", "outside")


def test_existing_files_are_replaced_only_on_request(refused, work):
    """Photographs of the same names beside the folder of images stay as they are."""
    shutil.copy(work / "normal/0.png", work / "7.png")
    refused("score m.skcoft new -o s.csv --maps .", "--maps '7.png' exists", "--overwrite")
    (work / "s.csv").write_text("mine")
    refused("score m.skcoft new -o s.csv", "--output 's.csv' exists")
    refused("score m.skcoft new -o t.csv --regions s.csv", "--regions 's.csv' exists")
    refused("report m.skcoft new -o s.csv", "--output 's.csv' exists")
    refused("fit normal -o s.csv", "--output 's.csv' exists")
    inputs = contents(work / "new")
    for _ in range(2):  # a repeated run replaces what it wrote
        command = "score m.skcoft new -o s.csv --regions r.csv --maps . --overwrite"
        assert main(command.split()) == 0
    assert contents(work / "new") == inputs
    assert (work / "s.csv").read_text().startswith("path,score")
    assert np.asarray(Image.open(work / "7.png")).ndim == 2


def test_outputs_that_cannot_be_written_are_refused_before_the_work(refused, work):
    (work / "maps").mkdir()
    (work / "maps/7.png").mkdir()
    refused("score m.skcoft new -o s.csv --maps maps --overwrite", "maps/7.png", "folder")
    (work / "new/deep").mkdir()
    shutil.move(work / "new/8.png", work / "new/deep/8.png")
    (work / "maps/7.png").rmdir()
    (work / "maps/deep").write_text("a file")
    refused("score m.skcoft new -o s.csv --maps maps", "maps/deep")
    if os.name != "nt":
        refused("score m.skcoft new -o /dev/null --overwrite", "device")


def test_functions_replace_files_but_no_image_of_X(inspector, work):
    X, before = ["new/6.png", "new/7.png"], contents(work)
    os.link("new/7.png", "hard.png")
    os.symlink("new/6.png", "soft.png")
    results = score_images(inspector, X)
    with open("new/6.png", "rb") as file, Image.open("new/7.png") as image:
        for path in ("new/6.png", "hard.png", "soft.png", "new/../new/7.png"):
            for images in (X, [file, image]):
                for write in (
                    lambda p, x: write_report(inspector, x, p),
                    lambda p, x: write_regions(inspector, x, p, ["a", "b"]),
                    lambda p, x: write_scores(results, p, X),
                    lambda p, x: write_maps(inspector, x, ".", [p.replace("new/../", ""), "b"]),
                ):
                    with pytest.raises(ValueError, match="would be replaced"):
                        write(path, images)
    with pytest.raises(ValueError, match="shots"):
        write_report(inspector, X, "normal/0.png", shots=[f"normal/{i}.png" for i in range(6)])
    assert {**contents(work), **before} == contents(work)
    for _ in range(2):
        write_report(inspector, X, "r.html")
        write_scores(results, "s.csv", X)
        write_maps(inspector, X, "maps", ["6", "7"])
        write_regions(inspector, X, "r.csv", X)
        inspector.save("again.skcoft")


def test_save_and_to_onnx_do_not_replace_what_they_read(inspector, work, monkeypatch):
    shutil.copy("m.skcoft", "weights.safetensors")
    os.symlink("weights.safetensors", "link")
    fitted = COFTDetector.load("m.skcoft").set_params(weights="weights.safetensors")
    with pytest.raises(ValueError, match="weights='weights.safetensors'"):
        fitted.save("link")
    assert (
        contents(work)[str(work / "weights.safetensors")] == contents(work)[str(work / "m.skcoft")]
    )
    monkeypatch.setattr("skcoft._export.onnx.ONNX_PACKAGES", ())
    with pytest.raises(ValueError, match="X, which would be replaced"):
        inspector.to_onnx("new/6.png", ["new/6.png", "new/7.png"])
