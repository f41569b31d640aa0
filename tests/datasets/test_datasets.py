"""Folders of images, and the plates that are drawn."""

import re
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from sklearn.metrics import roc_auc_score

from skcoft import COFTDetector
from skcoft.datasets import load_folder, make_plates


@pytest.fixture
def folder(tmp_path):
    """Write files of these names; no image is read, so they may be empty."""

    def write(*names):
        for name in names:
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        return tmp_path

    return write


def names(data, root):
    return [Path(path).relative_to(root).as_posix() for path in data.paths]


def test_train_and_test_apart_with_masks(folder):
    root = folder(
        "train/good/1.png",
        "train/good/0.png",
        "train/scratch/7.png",
        "test/good/2.png",
        "test/scratch/7.png",
        "test/stain/3.png",
        "ground_truth/scratch/7_mask.png",
        "ground_truth/stain/3.png",
        "licence.txt",
    )
    data = load_folder(root)
    assert names(data, root) == [
        "test/good/2.png",
        "test/scratch/7.png",
        "test/stain/3.png",
        "train/good/0.png",
        "train/good/1.png",
        "train/scratch/7.png",
    ]
    assert data.labels.tolist() == [1, -1, -1, 1, 1, -1]
    assert data.kinds.tolist() == ["good", "scratch", "stain", "good", "good", "scratch"]
    assert data.split.tolist() == ["test"] * 3 + ["train"] * 3
    scratch, stain = (root / f"ground_truth/{n}" for n in ("scratch/7_mask.png", "stain/3.png"))
    assert data.masks.tolist() == [None, str(scratch), str(stain), None, None, None]


@pytest.mark.parametrize("normal", ["good", "Normal", "OK"])
def test_a_folder_for_each_kind(folder, normal):
    root = folder(f"{normal}/a.JPG", "bad/b.tif", "bad/deep/c.webp")
    data = load_folder(root)
    assert dict(zip(names(data, root), data.labels.tolist(), strict=True)) == {
        f"{normal}/a.JPG": 1,
        "bad/b.tif": -1,
        "bad/deep/c.webp": -1,
    }
    assert set(data.split) == {""} and set(data.masks) == {None}
    assert sorted(data.kinds) == sorted([normal, "bad", "bad"])


def test_the_normal_folder_may_be_named(folder):
    root = folder("cat/1.png", "dog/2.png", "good/3.png")
    assert load_folder(root, normal="dog").labels.tolist() == [-1, 1, -1]


def test_a_flat_folder_has_no_labels(folder):
    root = folder(
        "b.png", "a.bmp", ".hidden.png", "._a.png", "a_mask.png", "notes.txt", "x_mask.png"
    )
    data = load_folder(root)
    # x_mask.png is an image, for there is no x that it might be the mask of
    assert names(data, root) == ["a.bmp", "b.png", "x_mask.png"]
    assert data.labels is None
    assert data.kinds.tolist() == data.split.tolist() == [""] * 3
    assert data.masks.tolist() == [str(root / "a_mask.png"), None, None]


def test_without_labels_every_image_counts(folder):
    root = folder("top.png", "monday/1.png", ".trash/0.png", "tuesday/x/2.png")
    data = load_folder(root, normal=None)
    assert names(data, root) == ["monday/1.png", "top.png", "tuesday/x/2.png"]
    assert data.labels is None and data.kinds.tolist() == ["monday", "", "tuesday"]


def test_paths_are_what_detectors_take(tmp_path, digits):
    for i, image in enumerate(digits[0][:5]):
        Image.fromarray((255 * image).astype(np.uint8)).save(tmp_path / f"{i}.png")
    paths = load_folder(tmp_path).paths
    detector = COFTDetector("resnet10t", weights=None, image_size=32, max_iter=0, random_state=0)
    assert detector.fit(paths[:4]).score_samples(paths[4:]).shape == (1,)


@pytest.mark.parametrize(
    "files, normal, message",
    [
        (["a.txt", ".x.png"], "auto", "no image"),
        (["ground_truth/a.png"], "auto", r"no image .* masks \(1\)"),
        (["cat/1.png", "dog/2.png"], "cow", "normal='cow'"),
        (["cat/1.png", "dog/2.png"], "cow", "'cat', 'dog'"),
        (["0.png"], "good", "no subfolder"),
        (["a/train/good/1.png", "b/test/good/1.png"], "auto", "'a', 'b'"),
    ],
)
def test_folders_without_an_answer_are_rejected(folder, files, normal, message):
    with pytest.raises(ValueError, match=message):
        load_folder(folder(*files), normal=normal)


@pytest.mark.parametrize(
    "normal, labels",
    [
        # names that say it of themselves
        ("auto", {"Good/1.png": 1, "ok/2.png": 1, "crack/3.png": -1}),
        ("auto", {"normal images/1.png": 1, "more_normal/2.png": 1, "OK-2/a/3.png": 1}),
        ("auto", {"train/not_good/1.png": -1, "test/no defect/2.png": 1}),
        ("auto", {"iO/1.png": 1, "niO/2.png": -1, "ABNORMAL/3.png": -1}),
        ("auto", {"i.O./1.png": 1, "n.i.O./2.png": -1, "N.G./3.png": -1, "bottle_ng/4.png": -1}),
        ("auto", {"train_good/1.png": 1, "test_bad/2.png": -1}),
        # the nearest name
        ("auto", {"good/bad/1.png": -1, "bad/good/2.png": 1, "bad/deep/3.png": -1}),
        ("auto", {"monday/good/1.png": 1, "monday/bent/2.png": -1, "tuesday/3.png": 0}),
        ("auto", {"good/train/1.png": 1, "good/test/2.png": 1, "bad/test/3.png": -1}),
        # names that do not say it, beside normal images
        ("auto", {"good/1.png": 1, "new/2.png": 0, "2024-05-01/3.png": 0, "day 2/4.png": 0}),
        ("auto", {"good/1.png": 1, "good_but_scratched/2.png": 0, "test/3.png": 0, "4.png": 0}),
        ("auto", {"bad/1.png": -1, "x/2.png": 0}),
        # the name that the user gives
        ("Train", {"Train/good/1.png": 1, "Test/good/2.png": 1, "Test/bad/3.png": -1}),
        ("train", {"Train/1.png": 1, "Test/2.png": 0, "Test/bad/3.png": -1}),
        ("DOG", {"cat/1.png": -1, "dog/2.png": 1, "good/3.png": -1, "4.png": 0}),
        ("day1", {"day1/1.png": 1, "day2/good/2.png": 1, "day2/bad/3.png": -1}),
        ("good", {"good/1.png": 1, "new/2.png": -1}),
    ],
)
def test_the_nearest_folder_name_decides(folder, normal, labels):
    root = folder(*labels)
    data = load_folder(root, normal=normal)
    assert dict(zip(names(data, root), data.labels.tolist(), strict=True)) == labels


@pytest.mark.parametrize(
    "files", [["cat/1.png", "dog/2.png"], ["0.png", "monday/1.png"], ["train/1.png", "test/2.png"]]
)
def test_labels_that_no_name_gives_are_absent(folder, files):
    root = folder(*files)
    data = load_folder(root)
    assert data.labels is None and names(data, root) == sorted(files)


def test_errors_name_the_folder(tmp_path):
    (tmp_path / "a.png").touch()
    for path, normal, error, name in (
        (tmp_path / "x", "auto", FileNotFoundError, re.escape(repr(str(tmp_path / "x")))),
        (tmp_path / "a.png", "auto", NotADirectoryError, "a.png"),
        ([tmp_path], "auto", ValueError, "path "),
        (bytes(tmp_path), "auto", ValueError, "path "),
        ("", "auto", FileNotFoundError, "''"),
        (tmp_path, 1, ValueError, "normal "),
    ):
        with pytest.raises(error, match=name):
            load_folder(path, normal=normal)


def test_plates_come_as_asked_for():
    plates = make_plates(3, 6, size=48, random_state=0)
    assert plates.images.shape == (9, 48, 48, 3) and plates.images.dtype == np.uint8
    assert plates.masks.shape == (9, 48, 48) and plates.masks.dtype == bool
    assert plates.labels.tolist() == [1] * 3 + [-1] * 6
    kinds = ["scratch", "stain", "dent", "missing_hole", "scratch", "stain"]
    assert plates.kinds.tolist() == ["good"] * 3 + kinds
    assert plates.masks.any(axis=(1, 2)).tolist() == [False] * 3 + [True] * 6


def test_depths_of_plates():
    """A hole and the ground lie low, the plate high; a stain has no depth, a dent has one."""
    plates = make_plates(4, 4, size=128, random_state=0)
    assert plates.depths.shape == (8, 128, 128) and plates.depths.dtype == np.uint16
    heights = 0.1 * (plates.depths / 65535)
    middle, corner = heights[:, 60:68, 60:68].mean(), heights[:, :8, :8].mean()
    assert max(middle, corner) < 0.001
    assert_allclose(heights[:, 100:104, 60:68].mean(), 0.06 + 0.012 + 0.012, atol=0.004)
    kinds = plates.kinds[4:].tolist()
    usual = heights[:4].mean(axis=0)
    off = [np.abs(h - usual)[m].mean() for h, m in zip(heights[4:], plates.masks[4:], strict=True)]
    off = dict(zip(kinds, off, strict=True))
    assert off["stain"] < 0.006 < off["dent"] < off["missing_hole"]
    images = make_plates(0, 4, size=128, random_state=0).depths
    assert len(np.unique(images[:, 64, 20])) == 4  # each is measured anew


def test_plates_repeat_and_leave_the_global_state_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first, again, other = (make_plates(2, 2, size=32, random_state=s).images for s in (1, 1, 2))
    assert_array_equal(first, again)
    assert all((first[i] != other[i]).any() for i in range(4))
    assert len({image.tobytes() for image in first}) == 4
    assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_a_mask_shows_where_the_defect_is():
    """The same seeds without and with defects: the images differ there, and hardly elsewhere."""
    good = make_plates(8, 0, size=128, random_state=0)
    bad = make_plates(0, 8, size=128, random_state=0)
    change = np.abs(bad.images.astype(float) - good.images).mean(axis=3)
    for kind, mask, changed in zip(bad.kinds, bad.masks, change, strict=True):
        assert 10 < mask.sum() < 0.1 * mask.size, kind
        assert changed[mask].mean() > 8 > 1 > changed[~mask].mean(), kind


def test_plates_are_a_task_that_is_neither_trivial_nor_hopeless():
    plates = make_plates(8 + 10, 12, size=128, random_state=1)
    X, y = plates.images[8:], plates.labels[8:]
    detector = COFTDetector("embedded", max_iter=0, random_state=0).fit(plates.images[:8])
    assert 0.9 < detector.score(X, y) < 1
    pixels = np.abs(X - plates.images[:8].mean(axis=0)).mean(axis=(1, 2, 3))
    assert roc_auc_score(y, -pixels) < 0.8


@pytest.mark.parametrize(
    "options, name",
    [
        (dict(n_normal=-1), "n_normal .*-1"),
        (dict(n_anomalous=1.5), "n_anomalous .*1.5"),
        (dict(size=31), "size .*31"),
        (dict(n_normal=0, n_anomalous=0), "n_normal and n_anomalous"),
    ],
)
def test_numbers_of_plates_are_checked(options, name):
    with pytest.raises(ValueError, match=name):
        make_plates(**options)
