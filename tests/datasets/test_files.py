"""Which files of a folder are images, and what is passed over."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

import skcoft
from skcoft.datasets import load_folder
from skcoft.datasets._files import image_suffixes


@pytest.fixture
def root(tmp_path):
    return tmp_path / "set"


def write(root, *names):
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


def names(data, root):
    return [Path(path).relative_to(root).as_posix() for path in data.paths]


def test_all_that_pillow_decodes_counts(root):
    root.mkdir()
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (8, 8, 3), np.uint8))
    suffixes = "apng bmp dib gif jfif jp2 jpe jpeg jpg mpo png ppm tga tif webp".split()
    suffixes += ["avif"] * features.check("avif")  # from Pillow 11.3 on
    for suffix in suffixes:
        image.save(root / f"{suffix}.{suffix.upper()}")
    (root / "pnm.pnm").write_bytes((root / "ppm.PPM").read_bytes())
    data = load_folder(root)
    assert names(data, root) == sorted([f"{s}.{s.upper()}" for s in suffixes] + ["pnm.pnm"])
    assert data.skipped == {}
    for path in data.paths:
        with Image.open(path) as opened:
            assert opened.size == (8, 8)


def test_formats_that_pillow_only_recognises_are_passed_over():
    no_images = {".pdf", ".eps", ".wmf", ".h5", ".mpeg", ".npy", ".svg", ".mp4", ".palm"}
    assert not image_suffixes() & no_images


def test_formats_of_plugins_count(root, monkeypatch):
    write(root, "a.heic", "b.png")
    if ".heic" not in image_suffixes():
        data = load_folder(root)
        assert names(data, root) == ["b.png"] and data.skipped == {".heic": 1}
    monkeypatch.setitem(Image.EXTENSION, ".heic", "HEIF")
    monkeypatch.setitem(Image.OPEN, "HEIF", (Image.Image, None))
    assert names(load_folder(root), root) == ["a.heic", "b.png"]


def test_what_is_passed_over_is_counted(root):
    write(root, "1.png", "2.PNG", "2_mask.png", "notes.TXT", "more/notes.txt", "x.csv", "README")
    write(root, ".DS_Store", "._1.png", "Thumbs.db", "__MACOSX/1.png", "@eaDir/1.png", "a.b c")
    write(root, "folder.png/3.png")  # a folder called like an image
    (root / "gone.png").symlink_to(root / "nothing.png")
    (root / "loop.png").symlink_to(root / "loop.png")
    data = load_folder(root)
    assert names(data, root) == ["1.png", "2.PNG", "folder.png/3.png"]
    assert data.skipped == {
        ".csv": 1,
        ".txt": 2,
        "broken links or special files": 2,
        "files with another suffix": 1,
        "files without suffix": 1,
        "hidden or system files": 5,
        "masks": 1,
    }


def test_every_folder_is_read_once(root, tmp_path):
    write(root, "good/1.png", "z/2.png")
    write(tmp_path, "elsewhere/3.png", "4.png")
    (root / "all").symlink_to(root)
    (root / "good" / "up").symlink_to("..")
    (root / "a").symlink_to(root / "z")  # listed as z
    (root / "bad").symlink_to(tmp_path / "elsewhere")
    (root / "parent").symlink_to(tmp_path)  # more than the folder that was passed
    data = load_folder(root)
    assert names(data, root) == ["bad/3.png", "good/1.png", "z/2.png"]
    assert data.labels.tolist() == [-1, 1, -1]
    (tmp_path / "link").symlink_to(root)
    assert names(load_folder(tmp_path / "link"), tmp_path / "link") == names(data, root)


def test_folders_that_cannot_be_read_are_counted(root, monkeypatch):
    write(root, "good/1.png", "locked/2.png")
    listdir = os.listdir

    def deny(path):
        if Path(path).name == denied:
            raise PermissionError(13, "Permission denied", str(path))
        return listdir(path)

    monkeypatch.setattr(os, "listdir", deny)
    denied = "locked"
    data = load_folder(root)
    assert names(data, root) == ["good/1.png"]
    assert data.skipped == {"folders that cannot be read": 1}
    denied = root.name
    with pytest.raises(PermissionError, match=root.name):
        load_folder(root)


def test_any_name_is_listed(root):
    files = ["ä/é.png", "日本/1.png", "a\nb.png", "A.png", "a.png", "Ordner mit Leerzeichen/ .png"]
    write(root, *files)
    with open(os.fsencode(root) + b"/\xff.png", "wb"):
        pass
    data = load_folder(root)
    assert sorted(names(data, root)) == sorted([*files, os.fsdecode(b"\xff.png")])
    assert all(os.path.exists(path) for path in data.paths)
    assert load_folder(next(os.scandir(root.parent))).paths.tolist() == data.paths.tolist()


@pytest.mark.parametrize(
    "masks",
    [
        "bad/1_mask.png bad/2_GT.bmp",
        "bad/mask_1.png bad/2-label.png",
        "bad/masks/1.png bad/masks/2.png",
        "Masks/bad/1.png Masks/bad/2.png",
        "mask/1.png mask/2.png",
        "bad/labels/1.png bad/labels/2.png",
        "bad_masks/1.png bad_masks/2.png",
        "annotations/1.png Annotations/sub/2.png",
        "ground-truth/bad/1.png GroundTruth/bad/2.png",
        "gt/1.png gt/2.png",
        "masks_png/1.png GT_2/2.png",
    ],
)
def test_masks_are_no_images(root, masks):
    write(root, "good/1.png", "bad/1.jpg", "bad/2.jpg", *masks.split())
    data = load_folder(root)
    assert names(data, root) == ["bad/1.jpg", "bad/2.jpg", "good/1.png"]
    assert data.skipped == {"masks": 2}


@pytest.mark.parametrize(
    "files",
    [
        "bad/1.png bad/x_mask.png",  # no image x
        "face_mask/1.png good/1.png",
        "test/label/3.png test/good/1.png",  # a kind of defect
        "mask/train/good/1.png mask/test/good/2.png",  # a product
        "depth/1.png good/2.png",  # no other modality of any image
    ],
)
def test_images_whose_names_resemble_masks_are_listed(root, files):
    write(root, *files.split())
    data = load_folder(root)
    assert names(data, root) == sorted(files.split()) and data.skipped == {}


def test_of_two_files_with_one_name_the_one_of_two_colors_is_a_mask(root):
    root.mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (8, 8, 3), np.uint8)
    mask = 255 * np.eye(8, dtype=np.uint8)
    for name, pixels in (("1.jpg", noise), ("1.png", mask), ("2.jpg", noise), ("2.png", noise)):
        Image.fromarray(pixels).save(root / name)
    write(root, "3.jpg", "3.png")  # empty
    data = load_folder(root)
    assert names(data, root) == ["1.jpg", "2.jpg", "2.png", "3.jpg", "3.png"]
    assert data.masks.tolist() == [str(root / "1.png"), None, None, None, None]


def test_a_folder_as_X_is_refused_with_the_line_to_write(root):
    write(root, "1.jfif", "day/2.png")
    with pytest.raises(ValueError, match="is a folder") as caught:
        skcoft.COFTDetector("embedded", max_iter=0).fit(root)
    line = str(caught.value).split("files, ")[1].removesuffix(".")
    assert eval(line).tolist() == [str(root / "1.jfif"), str(root / "day/2.png")]
