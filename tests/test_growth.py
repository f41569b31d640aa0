"""``partial_fit`` of a stream of images: bounded shots, time and files, an even sample."""

from copy import copy

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from torch import nn

from skcoft import COFTDetector
from skcoft._input.shots import choose_shots

MAX_SHOTS = 128
SIDE = 32
SEEN = 220


class Maps(nn.Module):
    """Feature maps without weights, so that a shot costs milliseconds."""

    num_features = 6

    def forward(self, images):
        small = nn.functional.avg_pool2d(images, 4)
        return torch.cat([small, (small - small.mean((2, 3), keepdim=True)).abs()], dim=1)


def textures(n, seed=0, low=0.3):
    rng = np.random.default_rng(seed)
    return low + 0.3 * rng.random((n, SIDE, SIDE, 3))


def detector(**params):
    defaults = {"max_iter": 0, "image_size": SIDE, "random_state": 0}
    return COFTDetector(Maps(), **{**defaults, **params})


@pytest.fixture(scope="module")
def images():
    return textures(400)


@pytest.fixture(scope="module")
def streamed(images):
    """A detector and its number of shots after 8 images, 12 single ones and 20 batches."""
    fitted, counts = detector().fit(images[:8]), []
    starts = [*range(8, 20), *range(20, SEEN, 10)]
    for start, stop in zip(starts, [*starts[1:], SEEN], strict=True):
        counts.append(len(fitted.partial_fit(images[start:stop]).embeddings_))
    return fitted, counts


def sizes(fitted):
    """Number of items of everything that a detector remembers."""
    model, score = fitted._model, fitted._model.joint.backbone_scores[0]
    patch = score.components["patch"]
    return {
        "thumbnails": len(model.registry.thumbnails),
        "groups": len(model.registry.groups),
        "rows": len(score.support.embeddings),
        "moves": len(score.support.moves),
        "coresets": len(patch.coresets),
        "means": len(patch.patch_means),
        "held out": len(patch.held_out_scores),
        "scores": len(fitted.calibration_scores_),
    }


def test_a_stream_keeps_a_stated_number_of_shots(streamed):
    fitted, counts = streamed
    assert counts[:12] == list(range(9, 21)) and counts[12:22] == list(range(30, 121, 10))
    assert set(counts[22:]) == {MAX_SHOTS}
    assert sizes(fitted) == {
        "thumbnails": MAX_SHOTS,
        "groups": MAX_SHOTS,
        "rows": 6 * MAX_SHOTS,  # the shot, its mirror image and four probes
        "moves": 4 * len(set(fitted._model.joint.backbone_scores[0].support.move_ids)),
        "coresets": MAX_SHOTS,
        "means": 6 * MAX_SHOTS,
        "held out": 2 * MAX_SHOTS,
        "scores": MAX_SHOTS,
    }
    assert set(fitted.shot_ids_) == set(fitted._model.joint.backbone_scores[0].support.shot_ids)


def test_harmless_changes_of_at_most_16_shots_are_remembered(streamed):
    moved = set(streamed[0]._model.joint.backbone_scores[0].support.move_ids)
    assert 1 <= len(moved) <= 16 and moved <= set(streamed[0].shot_ids_)


def test_the_kept_shots_are_the_same_in_one_call_or_many(streamed, images):
    at_once = detector().fit(images[:8]).partial_fit(images[8:SEEN])
    assert_array_equal(np.sort(at_once.shot_ids_), np.sort(streamed[0].shot_ids_))
    assert_array_equal(
        np.sort(streamed[0].shot_ids_), choose_shots(list(range(SEEN)), MAX_SHOTS, encoder_seed())
    )


def encoder_seed():
    return detector().fit(textures(4))._model.encoders[0].seed


def test_early_and_late_images_are_kept_alike():
    kept = [choose_shots(list(range(1000)), MAX_SHOTS, seed) for seed in range(50)]
    halves = np.mean(np.concatenate(kept) < 500)
    assert abs(halves - 0.5) < 4 * 0.5 / (50 * MAX_SHOTS) ** 0.5  # four standard errors
    assert len({tuple(names) for names in kept}) == 50


def test_a_call_whose_image_is_not_kept_changes_no_score(streamed, images):
    fitted, _ = streamed
    names = choose_shots(list(range(SEEN + 1)), MAX_SHOTS, fitted._model.encoders[0].seed)
    assert SEEN not in names
    again = copy(fitted)
    scores, offset = again.score_samples(images[:20]), again.offset_
    again.partial_fit(images[SEEN : SEEN + 1])
    assert_array_equal(again.score_samples(images[:20]), scores)
    assert again.offset_ == offset and again._model.registry.n_seen == SEEN + 1
    assert fitted._model.registry.n_seen == SEEN  # models are never changed


def test_settings_take_effect_even_if_no_image_is_kept(streamed, images):
    again = copy(streamed[0]).set_params(density="gaussian", contamination=0.25)
    again.partial_fit(images[SEEN : SEEN + 1])
    assert SEEN not in again.shot_ids_
    assert type(again.density_).__name__ == "GaussianDensity"
    assert np.mean(again.held_out_scores_ < again.offset_) == 0.25
    with pytest.raises(ValueError, match="local=False"):
        again.set_params(local=False).partial_fit(images[SEEN : SEEN + 1])


def test_forgotten_images_are_scored_as_new_ones(streamed, images):
    fitted, _ = streamed
    forgotten = np.setdiff1d(np.arange(SEEN), fitted.shot_ids_)
    kept = np.sort(fitted.shot_ids_)
    model = fitted._model
    as_new = model.score_as_new(fitted._read(images[forgotten]))
    assert_array_equal(fitted.score_samples(images[forgotten]), as_new)
    assert_array_equal(
        np.sort(fitted.score_samples(images[kept])), np.sort(fitted.held_out_scores_)
    )


def test_the_threshold_and_maps_hold_after_a_long_stream(streamed, images):
    fitted, _ = streamed
    new = images[SEEN:400]
    assert 0 <= np.mean(fitted.predict(new) == -1) < 0.15
    spoiled = new[:20].copy()
    spoiled[:, 8:16, 8:16] = 0.95
    assert (fitted.predict(spoiled) == -1).all()
    assert (fitted.anomaly_map(spoiled).max(axis=(1, 2)) > fitted.map_threshold_).all()


def test_all_shots_of_fit_count_even_if_they_are_more(images):
    fitted = detector().fit(images[:140])
    for i in range(140, 160, 5):
        fitted.partial_fit(images[i : i + 5])
    assert len(fitted.embeddings_) == 140
    assert fitted.shot_ids_.max() >= 140  # a later one has replaced one of them


def test_a_camera_whose_image_never_changes_does_not_fill_the_detector(images):
    fitted = detector().fit(images[:4])
    for _ in range(12):
        with pytest.warns(UserWarning, match="duplicate"):
            fitted.partial_fit(images[3:4])
    assert fitted.shot_ids_.tolist() == [0, 1, 2] + [3] * 8
    fitted.partial_fit(images[4:5])
    assert fitted.shot_ids_[-1] == 16  # the number of images before


def test_a_group_has_a_bounded_number_of_images(images):
    fitted = detector().fit(images[:4], groups=list("abcd"))
    fitted.partial_fit(images[4:24], groups=["a"] * 19 + ["e"])
    assert fitted.shot_ids_.tolist() == [0, 1, 2, 3] + [0] * 7 + [23]


def test_a_wrong_image_in_a_batch_is_named_by_its_position(images):
    fitted = detector().fit(images[:120])
    seed = fitted._model.encoders[0].seed
    kept = [name for name in choose_shots(list(range(150)), MAX_SHOTS, seed) if name >= 120]
    wrong, position = images[120:150].copy(), kept[-1] - 120
    wrong[position] = textures(1, low=0.0)[0] * 0.1
    with pytest.warns(UserWarning, match=rf"far less normal than the others: X\[{position}\]"):
        fitted.partial_fit(wrong)


def test_clusters_are_right_after_shots_are_forgotten():
    light, dark = textures(110, 1, low=0.6), textures(90, 2, low=0.05) * [1, 0.2, 0.2]
    fitted = detector().fit(light[:20])
    fitted.partial_fit(np.concatenate([dark[:90], light[20:110]]))
    is_dark = (fitted.shot_ids_ >= 20) & (fitted.shot_ids_ < 110)
    assert 10 < is_dark.sum() < MAX_SHOTS - 10
    first_is_dark = bool(is_dark.sum() > MAX_SHOTS / 2)  # the largest cluster is number 0
    assert_array_equal(fitted._model.joint.cluster_labels, is_dark != first_is_dark)
    assert np.isfinite(fitted.score_samples(light[:20])).all()


@pytest.mark.parametrize("n_shots", [1, 2])
def test_detectors_of_few_shots_can_be_fed_a_stream(n_shots, images):
    fitted = detector().fit(images[:n_shots])
    for start in range(n_shots, 360, 60):
        fitted.partial_fit(images[start : start + 60])
    assert len(fitted.embeddings_) == MAX_SHOTS
    assert np.isfinite(fitted.score_samples(images[380:400])).all()
    names = {*fitted._model.joint.backbone_scores[0].components["patch"].coresets}
    kept = {*fitted.shot_ids_.tolist()}
    if n_shots == 1:  # its views have kernels, under negative names, as long as it is kept
        assert (min(names) < 0) == (0 in kept)
        names, kept = {name for name in names if name >= 0}, kept - {0}
    assert names == kept


def test_files_stay_the_same_size_and_go_on(tmp_path):
    from skcoft.datasets import make_plates

    plates = make_plates(136, 0, size=32, random_state=0).images
    fitted = COFTDetector("embedded", max_iter=0, image_size=32, random_state=0)
    fitted.fit(plates[:128]).save(tmp_path / "128")
    fitted.partial_fit(plates[128:]).save(tmp_path / "136")
    ratio = (tmp_path / "136").stat().st_size / (tmp_path / "128").stat().st_size
    assert 0.99 < ratio < 1.01
    loaded = COFTDetector.load(tmp_path / "136")
    assert_array_equal(loaded.score_samples(plates), fitted.score_samples(plates))
    loaded.partial_fit(plates[:1]), fitted.partial_fit(plates[:1])
    assert_array_equal(loaded.shot_ids_, fitted.shot_ids_)


def test_a_table_keeps_more_rows_and_their_scores_stay_finite():
    rows = np.random.default_rng(0).normal(size=(1300, 4))
    fitted = COFTDetector(max_iter=0, n_views=0, random_state=0).fit(rows[:8])
    fitted.partial_fit(rows[8:1300])
    assert len(fitted.embeddings_) == 1024
    standardizer = fitted._model.joint.backbone_scores[0].support.standardizer
    assert not standardizer.is_reference.any()  # some of the eight were forgotten
    assert np.isfinite(fitted.held_out_scores_).all()
    assert np.mean(fitted.predict(np.random.default_rng(1).normal(size=(400, 4))) == -1) < 0.15


def test_a_model_of_an_earlier_version_counts_from_its_images(images):
    fitted = detector().fit(images[:4])
    object.__setattr__(fitted._model.registry, "n_seen", None)
    assert fitted.partial_fit(images[4:6]).shot_ids_.tolist() == [0, 1, 2, 3, 4, 5]
    assert fitted._model.registry.n_seen == 6
