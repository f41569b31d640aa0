"""Copies of a shot, and images that belong together, count once."""

import inspect
import re
import warnings
from io import BytesIO

import numpy as np
import pytest
import sklearn
import torch
from conftest import TinyNet
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from scipy.ndimage import gaussian_filter
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skcoft import COFTDetector, COFTEmbedder
from skcoft._input.images import Images
from skcoft._input.shots import ShotRegistry, mean_per_shot
from skcoft._input.table import Table
from skcoft._training.batches import draw_shots
from skcoft.density import KernelDensity
from skcoft.model_selection import OneClassKFold


def textures(n, seed, size=64):
    noise = np.random.default_rng(seed).normal(size=(n, size, size))
    smooth = gaussian_filter(noise, (0, 1.5, 1.5))
    return (np.clip(smooth / smooth.std() * 0.15 + 0.5, 0, 1) * 255).astype(np.uint8)


def as_images(array):
    return Images(torch.from_numpy(np.ascontiguousarray(array))[:, None])


def warns_of(*names):
    """Expect a warning that names images, in this order."""
    return pytest.warns(UserWarning, match=".*".join(map(re.escape, names)))


SHOTS, UNSEEN = textures(8, 0), textures(60, 11)
FAST = dict(backbone="embedded", image_size=64, max_iter=0, random_state=0)


def test_rows_far_from_zero_are_told_by_what_they_vary_by():
    rows = np.random.default_rng(0).normal(size=(8, 3))
    for moved in (rows + 1e7, rows * 1e-5 + 50, rows + 1.7e9 * np.array([1, 0, 0])):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert len(np.unique(ShotRegistry.of(Table(moved)).ids)) == 8
        with warns_of("X[8]", "X[2]"):
            assert ShotRegistry.of(Table(np.r_[moved, moved[2:3]])).ids[8] == 2
    with warns_of("duplicate"):  # rounding, where the values are about zero
        assert len(np.unique(ShotRegistry.of(Table(np.r_[rows, rows + 5e-7])).ids)) == 8
    far = rows + 2e-6 * rows.std(axis=0)
    assert len(np.unique(ShotRegistry.of(Table(np.r_[rows, far])).ids)) == 16


def test_mirror_images_of_shots_are_copies_where_views_are_mirrored():
    images = np.concatenate([SHOTS[:4], SHOTS[:4, :, ::-1]])
    with warns_of("X[4]", "X[0]"):
        fitted = COFTDetector(**FAST).fit(images)
    assert len(fitted.calibration_scores_) == 4
    assert (fitted.predict(UNSEEN) == -1).mean() < 0.2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        apart = COFTDetector(**FAST, augmentation={"flip": 0}).fit(images)
        grown = COFTDetector(**FAST, augmentation={"flip": 0}).fit(images[:4])
        grown.partial_fit(images[4:])
    assert len(apart.calibration_scores_) == len(grown.calibration_scores_) == 8
    later = COFTDetector(**FAST).fit(images[:4])
    with warns_of("X[0]", "shot 0"):
        later.partial_fit(images[4:])
    assert len(later.calibration_scores_) == 4
    with warns_of("duplicate"):
        COFTEmbedder(**FAST).fit(images)


def noisy(images, amount):
    noise = np.random.default_rng(5).integers(-amount, amount + 1, images.shape)
    return (images.astype(int) + noise).clip(0, 255).astype(np.uint8)


def as_jpeg(image, quality):
    content = BytesIO()
    Image.fromarray(image).save(content, "JPEG", quality=quality)
    return np.array(Image.open(content))


def resized(image, side):
    return np.array(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC))


CHANGES = {
    "equal": lambda x: x,
    "noise of one level": lambda x: noisy(x, 1),
    "another light": lambda x: (x * 0.97 + 2).astype(np.uint8),
    "JPEG of quality 95": lambda x: as_jpeg(x, 95),
    "JPEG of quality 50": lambda x: as_jpeg(x, 50),
    "JPEG of a smaller image": lambda x: as_jpeg(resized(x, 58), 80),
    "larger": lambda x: resized(x, 70),
    "moved by a pixel": lambda x: np.pad(x, ((0, 1), (0, 1)), mode="reflect")[1:, 1:],
}


@pytest.mark.parametrize("change", CHANGES)
def test_copies_are_found(change):
    images = [*SHOTS[:4], *map(CHANGES[change], SHOTS[1:3])]
    images = Images([torch.from_numpy(image)[None] for image in images])
    with warns_of("X[4]", "X[1]"):
        found = ShotRegistry.of(images)
    assert_array_equal(found.ids, [0, 1, 2, 3, 1, 2])


def test_a_copy_is_found_among_two_images():
    """No other image says how far images are apart, so the limit of 4 % decides."""
    images = np.concatenate([SHOTS[:1], noisy(SHOTS[:1], 1)])
    with warns_of("X[1]", "X[0]"):
        assert_array_equal(ShotRegistry.of(as_images(images)).ids, 0)


def test_a_file_saved_anew_is_a_copy_of_an_image_of_an_earlier_call():
    """Whichever of the two came first: the limits of both count."""
    saved = np.stack([as_jpeg(image, 50) for image in SHOTS])
    for first, later in ((SHOTS, saved), (saved, SHOTS)):
        found = ShotRegistry.of(as_images(first[:4]))
        assert found.jpeg_distances.shape == (4,)
        with warns_of("X[1]", "shot 3"):
            found = found.extend(as_images(later[[4, 3]]), None, {None: None})
        assert_array_equal(found.ids, [0, 1, 2, 3, 4, 3])
    detector = COFTDetector(**FAST).fit(SHOTS)
    with warns_of("shot 0"):
        detector.partial_fit(saved)
    assert len(detector.calibration_scores_) == 8


def test_plain_surfaces_are_no_copies():
    """They hardly differ, and files of them would lie farther from them than others do."""
    y, x = np.mgrid[-1:1:128j, -1:1:128j]
    noise = np.random.default_rng(0).normal(size=(8, 128, 128))
    plain = (128 - 5 * (x**2 + y**2) + noise).round().astype(np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = ShotRegistry.of(as_images(plain))
    apart = np.linalg.norm(found.thumbnails[:, None] - found.thumbnails, axis=2)[
        np.triu_indices(8, 1)
    ]
    assert apart.max() < found.jpeg_distances.min()
    with warns_of("X[8]", "X[0]"):
        ShotRegistry.of(as_images(np.concatenate([plain, plain[:1]])))


def test_copies_in_many_blocks():
    """Each is compared with those before it, in its own block and in others."""
    many = textures(40, 3, 16)
    order = np.r_[0:40, 39, 0, 20]
    with warns_of("X[40]", "X[39]"):
        found = ShotRegistry.of(as_images(many[order]))
    assert_array_equal(found.ids, order)
    mixed = [torch.from_numpy(resized(many[i], 16 + i % 2))[None] for i in order]
    with warns_of("duplicate"):
        assert_array_equal(ShotRegistry.of(Images(mixed)).ids, order)


def test_a_missing_group_is_none():
    detector = COFTDetector(**FAST).fit(SHOTS[:4], groups=[1.0, np.nan, np.nan, 1.0])
    assert len(detector.calibration_scores_) == 3


def test_what_is_no_copy():
    """Others of a kind, a shifted one, another flat one, mirror images."""
    flat = np.stack([np.full((64, 64), value, np.uint8) for value in (0, 10, 200)])
    others = [SHOTS, np.roll(SHOTS[:1], 2, axis=2), SHOTS[:1, :, ::-1], flat, noisy(SHOTS[:1], 40)]
    images = np.concatenate(others)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_array_equal(ShotRegistry.of(as_images(images)).ids, np.arange(len(images)))


def test_black_images_are_copies():
    with warns_of("X[1]", "X[0]"):
        assert_array_equal(ShotRegistry.of(as_images(np.zeros((3, 8, 8), np.uint8))).ids, 0)


def test_rows_are_copies_where_they_are_equal():
    rows = np.array([[1.0, 0], [1, 1e-3], [1 + 1e-8, 0], [2, 0]])
    with warns_of("X[2]", "X[0]"):
        assert_array_equal(ShotRegistry.of(Table(rows)).ids, [0, 1, 0, 3])


def test_groups_and_later_calls():
    """Names hold across calls; copies of earlier images are theirs; new ones are numbered on."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first = ShotRegistry.of(as_images(SHOTS[:4]), ["a", "b", "a", None])
    assert_array_equal(first.ids, [0, 1, 0, 3])
    added = np.concatenate([SHOTS[4:6], SHOTS[3:4]])
    with warns_of("X[2]", "shot 3"):
        both = first.extend(as_images(added), ["b", "c", None], {None: None})
    assert_array_equal(both.ids, [0, 1, 0, 3, 1, 5, 3])
    assert_array_equal(first.ids, [0, 1, 0, 3])


@pytest.mark.parametrize("params", [{}, {"local": False}, {"density": "gaussian"}], ids=str)
@pytest.mark.parametrize("n", [4, 6])
@pytest.mark.filterwarnings("ignore:X holds .*duplicate")
def test_copies_change_little(params, n):
    """As many unseen normal images are flagged as without, and the ranking stays."""
    flagged = []
    for seed in range(3):  # of the views, drawn anew, by which the within_between_ratio is told
        settings = {**FAST, **params, "random_state": seed}
        plain = COFTDetector(**settings).fit(SHOTS[:n])
        doubled = COFTDetector(**settings).fit(np.concatenate([SHOTS[:n], noisy(SHOTS[:n], 1)]))
        assert len(doubled.calibration_scores_) == n
        scores = [fitted.decision_function(UNSEEN) for fitted in (plain, doubled)]
        assert np.corrcoef(*scores)[0, 1] > 0.85
        flagged.append([np.mean(found < 0) for found in scores])
    without, doubled = np.mean(flagged, axis=0)
    assert abs(without - doubled) <= 0.05


@pytest.mark.filterwarnings("ignore:X holds .*duplicate")
def test_equal_copies_change_nothing_of_frozen_rows():
    """Doubled, or one of them tripled: the density and the threshold are those without copies."""
    rng = np.random.default_rng(0)
    rows, queries = rng.normal(size=(8, 5)), rng.normal(size=(20, 5))
    kernel = KernelDensity().fit(rows)
    tripled = np.r_[0:8, 2, 2]
    again = KernelDensity().fit(rows[tripled], groups=tripled)
    assert_allclose(again.bandwidth_, kernel.bandwidth_)
    assert_allclose(again.score_samples(queries), kernel.score_samples(queries))
    loo, loo_again = KernelDensity("loo").fit(rows), KernelDensity("loo")
    loo_again.fit(rows[tripled], groups=tripled)
    assert_allclose(loo_again.bandwidth_, loo.bandwidth_, rtol=1e-6)
    at_scale = KernelDensity().fit_at_scale_of(kernel, rows[tripled], groups=tripled)
    assert_allclose(at_scale.score_samples(queries), kernel.score_samples(queries))
    plain = COFTDetector(max_iter=0, random_state=0, n_views=0).fit(rows)
    doubled = COFTDetector(max_iter=0, random_state=0, n_views=0).fit(rows.repeat(2, axis=0))
    assert_allclose(doubled.offset_, plain.offset_)
    assert_allclose(doubled.score_samples(queries), plain.score_samples(queries))


def test_a_batch_draws_every_shot_as_often_and_its_images_by_chance():
    ids, generator = np.array([0, 1, 0, 3, 0]), torch.Generator().manual_seed(0)
    drawn = torch.stack([draw_shots(ids, 3, generator) for _ in range(300)]).numpy()
    assert all(sorted(ids[batch]) == [0, 1, 3] for batch in drawn)
    counts = np.bincount(drawn.ravel(), minlength=5)
    assert counts[1] == counts[3] == 300 and counts[[0, 2, 4]].min() > 70


def test_mean_of_shots():
    values = np.array([[1.0, 0], [5, 5], [3, 2]])
    assert mean_per_shot(values, np.arange(3)) is values
    assert_array_equal(mean_per_shot(values, [7, 9, 7]), [[2, 1], [5, 5]])


@pytest.mark.parametrize("contrastive", ["mean_shifted", "infonce"])
def test_images_of_a_group_are_not_each_others_negatives(contrastive, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "skcoft._training.objective.Objective.forward",
        lambda self, h, shots: seen.append((shots.tolist(), self.positive_weight)) or 1 / 0,
    )
    embedder = COFTEmbedder(TinyNet(), image_size=16, contrastive=contrastive, random_state=0)
    with pytest.raises(ZeroDivisionError):
        embedder.fit(SHOTS, groups=[0, 0, 1, 1, 2, 2, 3, 3])
    assert sorted(seen[0][0]) == [0, 0, 2, 2, 4, 4, 6, 6] and seen[0][1] == 4 / 8


@pytest.mark.filterwarnings("ignore:contamination='auto'")
def test_one_group_is_one_shot():
    """It is left to the frozen backbone, as a single image is."""
    detector = COFTDetector(TinyNet(), image_size=16, random_state=0)
    detector.fit(SHOTS[:3], groups=["part"] * 3)
    assert detector.n_iter_ == 0 and len(detector.calibration_scores_) == 1
    assert len(detector.embeddings_) == 3 and np.isfinite(detector.score_samples(UNSEEN)).all()
    detector.partial_fit(SHOTS[3:7], groups=["part", "b", "c", "d"])
    assert len(detector.calibration_scores_) == 4 and len(detector.embeddings_) == 7
    assert detector.kneighbors(SHOTS[6:7], return_distance=False) == [[6]]


def test_groups_in_fit_predict():
    detector = COFTDetector(**FAST)
    found = detector.fit_predict(iter(SHOTS), groups=[0, 0, 1, 1, 2, 2, 3, 3])
    assert len(found) == 8 and len(detector.calibration_scores_) == 4


def test_groups_go_with_what_y_leaves_in():
    y, groups = [1, -1, 1, 1, -1, 1], ["a", "a", "a", "b", "b", "c"]
    detector = COFTDetector(**FAST).fit(SHOTS[:6], y, groups=groups)
    assert len(detector.calibration_scores_) == 3 and len(detector.embeddings_) == 4
    with pytest.raises(ValueError):
        detector.fit(SHOTS[:6], groups=groups[:5])


def test_groups_are_routed_by_scikit_learn():
    for method in ("fit", "partial_fit"):
        assert "groups" in inspect.signature(getattr(COFTDetector, method)).parameters
    groups = np.arange(8) // 2
    with sklearn.config_context(enable_metadata_routing=True):
        detector = COFTDetector(**FAST).set_fit_request(groups=True)
        pipeline = make_pipeline(FunctionTransformer(), detector)
        pipeline.fit(SHOTS, groups=groups)
    assert len(pipeline[-1].calibration_scores_) == 4


@pytest.mark.parametrize("missing", [None, np.nan])
def test_splits_leave_images_without_a_group_alone(missing):
    groups = np.array(["a", missing, "a", missing, "b", missing], dtype=object)
    for train, test in OneClassKFold(3).split(groups, groups=groups):
        known = [
            {group for group in groups[part] if group in ("a", "b")} for part in (train, test)
        ]
        assert not known[0] & known[1] and len(test) == 2
