from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import roc_auc_score

from skcoft import COFTDetector
from skcoft._evidence.patch_density import (
    COMPARED_SHARE,
    MAX_KERNEL_SHOTS,
    MAX_KERNELS,
    SCORED_SHARE,
    PatchDensity,
    mean_of_lowest,
    ratio_of_support,
    score_patches,
)
from skcoft._evidence.patch_kde import PatchKDE, metric_of_moves
from skcoft._input.defaults import IMAGE_DEFAULTS
from skcoft._input.images import Images
from skcoft._network.backbone import Backbone
from skcoft._network.encoder import Features
from skcoft._network.patches import MAX_PATCHES
from skcoft._network.support import MAX_RATIO, MIRROR, SHOT, Support


def stripes(n, seed=0):
    """Striped tiles, uint8 (n, 64, 96), a little different in phase and light."""
    rng = np.random.default_rng(seed)
    x = np.arange(96) + rng.uniform(0, 8, (n, 1, 1))
    rows = 128 + 60 * np.sin(x * np.pi / 4) + rng.normal(0, 4, (n, 64, 96))
    return (rows + rng.uniform(-10, 10, (n, 1, 1))).clip(0, 255).astype(np.uint8)


def spotted(n, seed=0):
    """Tiles with a dark spot, and where it is."""
    images, masks = stripes(n, seed), np.zeros((n, 64, 96), dtype=bool)
    rng = np.random.default_rng(seed)
    for image, mask in zip(images, masks, strict=True):
        y, x = rng.integers(8, 44), rng.integers(8, 76)
        mask[y : y + 12, x : x + 12] = True
        image[mask] = 20
    return images, masks


@pytest.fixture(scope="module")
def detector():
    return COFTDetector(local=True, max_iter=2, random_state=0).fit(stripes(8))


def learned(positions, n_views=0, mirror=False, part=None, first=0, moves=None, earlier=None):
    """A part that has learned of shots (n, h, w, d) with views; and their support."""
    rounds = 1 + mirror + n_views
    rows = Support.allot(np.arange(len(positions) // rounds) + first, n_views, mirror)
    support = Support(
        positions.mean(axis=(1, 2)),
        rows.shot_ids,
        rows.roles,
        rows.is_calibration,
        positions,
        patch_moves=moves,
    )
    part = part or PatchDensity(0)
    part.add_patches(support, earlier)
    return part, support


def grid(n, seed=0):
    return np.random.default_rng(seed).normal(size=(n, 30, 30, 4)).astype(np.float32)


def features(n, seed=0):
    return Features(None, torch.from_numpy(grid(n, seed)))


def test_numbers_of_kernels_and_positions():
    assert (MAX_KERNELS, MAX_KERNEL_SHOTS, SCORED_SHARE, MAX_RATIO) == (2048, 256, 0.01, 100)
    assert COMPARED_SHARE == 0.05


def test_memory_is_bounded_and_a_held_out_shot_is_unseen():
    positions = grid(12)
    positions[3] += 50  # as far off from the others as can be
    part, _ = learned(positions)
    assert {len(points) for points in part.coresets.values()} == {MAX_KERNELS // 12}
    assert part.held_out_scores.argmin() == 3
    own = mean_of_lowest(part.kde.log_maps(torch.from_numpy(positions[3:4])))[0]
    assert part.held_out_scores[3] < own - 100
    learned(grid(248, seed=1)[:, :8, :8], part=part, first=12)
    assert len(part.coresets) == MAX_KERNEL_SHOTS
    assert {len(points) for points in part.coresets.values()} == {MAX_KERNELS // MAX_KERNEL_SHOTS}
    assert len(part.held_out_scores) == len(part.patch_means) == 260


def test_shots_with_kernels_are_a_random_subset_of_many():
    """The same one, in whatever calls the shots come; every shot is held out."""
    positions = grid(300)[:, :6, :6]
    together, _ = learned(positions)
    apart, _ = learned(positions[:200])
    learned(positions[200:], part=apart, first=200)
    assert set(together.coresets) == set(apart.coresets)
    chosen = np.sort(list(together.coresets))
    assert len(chosen) == MAX_KERNEL_SHOTS and 0 < np.sum(chosen >= 200) < 100
    assert set(learned(positions, part=PatchDensity(1))[0].coresets) != set(together.coresets)
    for row in (chosen[3], np.setdiff1d(np.arange(300), chosen)[3]):
        others = [points for name, points in together.coresets.items() if name != row]
        fitted = PatchKDE(np.concatenate(others), together.bandwidth)
        log_map = fitted.log_maps(torch.from_numpy(positions[row])[None])
        assert together.held_out_scores[row] == mean_of_lowest(log_map)[0]


def test_kernels_are_spread_and_seeded():
    """A coreset by k-means++ seeding leaves no position far away, as a draw at random would."""
    positions = grid(1)
    positions[0, 0, :20] += np.eye(4, dtype=np.float32).repeat(5, axis=0) * 20  # 20 rare ones
    part, _ = learned(np.concatenate([positions, grid(63, seed=1)]))
    rare = np.linalg.norm(part.coresets[0], axis=1) > 10
    assert len(part.coresets[0]) == 32 and rare.sum() >= 4
    again, _ = learned(np.concatenate([positions, grid(63, seed=1)]))
    assert_array_equal(again.coresets[5], part.coresets[5])
    other, _ = learned(grid(4), part=PatchDensity(1))
    assert not np.array_equal(other.coresets[0], learned(grid(4))[0].coresets[0])


def test_held_out_scores_are_those_of_the_other_kernels():
    """Of every calibrating row, at the bandwidth of the first fit of all."""
    part, support = learned(grid(10), n_views=0, mirror=True)
    assert list(part.coresets) == [0, 1, 2, 3, 4]
    assert part.bandwidth == PatchKDE(np.concatenate(list(part.coresets.values()))).bandwidth
    for row in (1, 6):  # shot 1 and its mirror image
        others = [points for name, points in part.coresets.items() if name != 1]
        fitted = PatchKDE(np.concatenate(others), part.bandwidth)
        positions = torch.from_numpy(support.patches[row])[None]
        assert part.held_out_scores[row] == mean_of_lowest(fitted.log_maps(positions))[0]
        assert part.held_out_minima[row] == fitted.log_maps(positions).min()


@pytest.mark.parametrize(("n_shots", "n_scores"), [(3, 3 * 3), (4, 4)])
def test_views_of_few_shots_are_held_out_too(n_shots, n_scores):
    part, _ = learned(grid(3 * n_shots), n_views=2)
    assert len(part.held_out_scores) == n_scores


def test_of_a_single_shot_every_view_is_held_out_alone():
    part, _ = learned(grid(3), n_views=2)
    assert list(part.coresets) == [-3, -2, -1]
    learned(grid(3, seed=1), n_views=2, part=part, first=1)  # and the next one as a whole
    assert list(part.coresets) == [-3, -2, -1, 1]


def test_later_shots_keep_the_bandwidth():
    part, _ = learned(grid(4))
    bandwidth = part.bandwidth
    learned(grid(4, seed=1) * 3, part=part, first=4)
    assert len(part.held_out_scores) == len(part.held_out_minima) == 8
    assert part.bandwidth == bandwidth
    assert {len(points) for points in part.coresets.values()} == {MAX_KERNELS // 8}


def test_kernels_are_wide_in_the_directions_of_the_first_moves():
    moves = [np.array([3.0, 0, 0, 0], dtype=np.float32) * grid(1, seed=2)[0][..., :1]]
    part, support = learned(grid(4), moves=moves)
    plain, _ = learned(grid(4))
    assert_array_equal(part.metric, metric_of_moves(moves, plain.bandwidth))
    assert part.metric[0, 0] < 0.5 and part.metric[1, 1] > 0.99
    others = np.concatenate([points for shot, points in part.coresets.items() if shot != 2])
    expected = PatchKDE(others, part.bandwidth, part.metric)
    maps = expected.log_maps(torch.from_numpy(support.patches[2])[None])
    assert part.held_out_scores[2] == mean_of_lowest(maps)[0]
    metric = part.metric
    learned(grid(4, seed=1), part=part, first=4, moves=[10 * moves[0]])
    assert_array_equal(part.metric, metric)
    assert_array_equal(part.kde.metric, metric)
    learned(grid(4, seed=1), part=plain, first=4, moves=moves)  # of an earlier version
    assert plain.metric is None and plain.kde.metric is None


def test_kept_of_a_batch_is_its_score():
    part, _ = learned(grid(4))
    batch = features(3, seed=2)
    kept = part.summarize(batch)
    maps = part.log_maps(batch)
    assert_array_equal(part.score(kept), mean_of_lowest(maps))
    assert_array_equal(part.minima(kept), maps.min(axis=(1, 2)))


def test_weight_is_the_likeness_of_the_shots():
    part, support = learned(grid(20), n_views=3, mirror=True)
    part.fit(support)
    assert_array_equal(part.patch_means, support.patches.mean(axis=(1, 2), dtype=np.float64))
    assert part.weight == ratio_of_support(part.patch_means, support)


def test_of_a_large_image_no_more_positions_count():
    maps = np.arange(96.0 * 96).reshape(1, 96, 96)
    assert MAX_PATCHES == 1024
    assert_array_equal(mean_of_lowest(maps), 4.5)  # the mean of the lowest 10 of 1,024


def test_image_score_is_the_mean_of_the_least_likely_hundredth():
    maps = np.random.default_rng(0).permuted(np.tile(np.arange(400.0), (3, 1)), axis=1)
    assert_array_equal(mean_of_lowest(maps.reshape(3, 20, 20)), 1.5)
    assert_array_equal(mean_of_lowest(np.array([[[3.0, 1.0], [2.0, 5.0]]])), 1.0)


def test_map_finds_the_spot_and_normals_stay_dark(detector):
    images, masks = spotted(6, seed=1)
    maps = detector.anomaly_map(images)
    assert maps.shape == (6, 64, 96) and maps.dtype == np.float64
    for found, mask in zip(maps, masks, strict=True):
        assert roc_auc_score(mask.ravel(), found.ravel()) > 0.9
    normal = detector.anomaly_map(stripes(6, seed=2))
    assert np.median(normal.max(axis=(1, 2))) < 3 < maps.max(axis=(1, 2)).min()


def test_local_density_decides(detector):
    normal, (images, _) = stripes(12, seed=3), spotted(12, seed=4)
    y = np.r_[np.ones(12), -np.ones(12)]
    assert detector.score(np.concatenate([normal, images]), y) > 0.95
    assert np.mean(detector.predict(normal)) > 0
    assert np.mean(detector.predict(images)) < -0.5


def test_a_map_does_not_depend_on_the_other_images(detector):
    images, _ = spotted(11, seed=5)
    whole = detector.anomaly_map(images)
    assert_array_equal(detector.anomaly_map(images[7:8])[0], whole[7])
    assert_array_equal(detector.score_samples(images[7:8]), detector.score_samples(images)[7:8])


def test_map_has_each_image_s_own_size(detector):
    maps = detector.anomaly_map([stripes(1)[0], stripes(1)[0][:50, :40]])
    assert [m.shape for m in maps] == [(64, 96), (50, 40)]


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.filterwarnings("ignore:contamination='auto'")
def test_few_shots(k):
    fitted = COFTDetector(local=True, max_iter=0, random_state=0).fit(stripes(k))
    images, _ = spotted(8, seed=6)
    y = np.r_[np.ones(8), -np.ones(8)]
    assert fitted.score(np.concatenate([stripes(8, seed=7), images]), y) > 0.9
    fitted.partial_fit(stripes(3, seed=8))
    assert len(fitted.embeddings_) == k + 3 and np.isfinite(fitted.offset_)


@pytest.mark.filterwarnings("ignore:contamination='auto'")
def test_one_shot_without_views():
    fitted = COFTDetector(local=True, max_iter=0, n_views=0, random_state=0).fit(stripes(1))
    assert np.isfinite(fitted.score_samples(stripes(2))).all()


def test_contamination_is_a_share_of_the_shots():
    params = dict(local=True, max_iter=0, contamination=0.25, random_state=0)
    fitted = COFTDetector(**params).fit(stripes(8))
    assert np.sum(fitted.predict(stripes(8)) == -1) == 2
    fitted.partial_fit(stripes(4, seed=9))
    both = np.concatenate([stripes(8), stripes(4, seed=9)])
    assert np.sum(fitted.predict(both) == -1) == 3


def test_scores_join_both_densities(tiny_net):
    """On the scale of the whole image's, by the shots that were held out."""
    X, params = stripes(4, seed=10), dict(augmentation={"flip": 0}, max_iter=0, random_state=0)
    joined, whole = (
        COFTDetector(tiny_net, local=local, **params).fit(stripes(8)) for local in (True, False)
    )
    assert_array_equal(joined.density_.score_samples(joined.embed(X)), whole.score_samples(X))
    part = joined._model.joint.components[0, "patch"]
    inputs = joined._read(X)
    encoder = joined.embedder_.encoders_[0]
    local = encoder.summarize(inputs, {"l": part.summarize}, with_patches=True)["l"][:, 0]
    weight = part.weight * whole.calibration_scores_.std() / part.held_out_scores.std()
    expected = whole.score_samples(X) + weight * (local - part.held_out_scores.mean())
    assert_allclose(joined.score_samples(X), expected)
    held_out = whole.calibration_scores_ + weight * (
        part.held_out_scores - part.held_out_scores.mean()
    )
    assert_allclose(joined.calibration_scores_, held_out)
    assert weight > 0


@pytest.mark.parametrize("n_shots", [2, 3, 8])
@pytest.mark.filterwarnings("ignore:contamination='auto'")
def test_mirror_images_of_shots_count_as_normal(tiny_net, n_shots):
    """In the densities and held out; images are scored as they are."""
    shots = stripes(n_shots)
    fitted = COFTDetector(tiny_net, max_iter=0, random_state=0).fit(shots)
    support, part = (
        fitted._model.joint.backbone_scores[0].support,
        fitted._model.joint.components[0, "patch"],
    )
    mirrored = fitted.embed(shots[:, :, ::-1])
    assert_array_equal(support.embeddings[support.roles == MIRROR], mirrored)
    assert len(part.held_out_scores) == n_shots * (2 if n_shots >= 4 else 10)
    own = support.roles[support.is_calibration] == SHOT
    assert_array_equal(fitted.calibration_scores_, fitted._model.joint.held_out_scores()[own])


def test_no_mirror_images_where_views_have_none(tiny_net):
    for changes in ({"augmentation": {"flip": 0}}, {"augmentation": lambda x: x}, {"n_views": 0}):
        fitted = COFTDetector(tiny_net, max_iter=0, random_state=0, **changes).fit(stripes(4))
        assert MIRROR not in fitted._model.joint.backbone_scores[0].support.roles


def unlike(n, seed=0):
    """Images that have nothing in common."""
    rng = np.random.default_rng(seed)
    coarse = rng.random((n, 4, 6, 3))
    return coarse.repeat(16, axis=1).repeat(16, axis=2)


def held_out_errors(part, scores, shots):
    """Mean errors of held-out scores and minima (2, n) of earlier shots, for all their patches."""
    expected = []
    for i in range(scores.shape[1]):
        others = [points for name, points in part.coresets.items() if name != i]
        density = PatchKDE(np.concatenate(others), part.bandwidth, part.metric)
        expected.append(score_patches(density, shots[i]))
    return np.abs((scores - np.transpose(expected)).mean(axis=1))


def test_held_out_scores_follow_the_kernels():
    """They are nearly as if all patches of earlier shots were scored again."""
    shots = grid(24) + np.repeat([0, 6], [16, 8])[:, None, None, None].astype(np.float32)
    part, support = learned(shots[:16])
    fewer = deepcopy(part)
    earlier = np.stack([part.held_out_scores, part.held_out_minima])
    assert held_out_errors(part, earlier, shots).max() < 1e-3

    learned(shots[16:], part=part, first=16, earlier=support)
    scores = np.stack([part.held_out_scores, part.held_out_minima])[:, :16]
    before, after = held_out_errors(part, earlier, shots), held_out_errors(part, scores, shots)
    assert min(before) > 2 and np.all(after < 0.25 * before)

    fewer.keep_rows(support, support.shot_ids < 6)
    scores = np.stack([fewer.held_out_scores, fewer.held_out_minima])
    before = held_out_errors(fewer, earlier[:, :6], shots)
    after = held_out_errors(fewer, scores, shots)
    assert min(before) > 2 and np.all(after < 0.3 * before)


def test_shots_that_differ_weigh_local_density_less(tiny_net):
    alike, differing = (
        COFTDetector(tiny_net, max_iter=0, random_state=0).fit(make(8))
        for make in (stripes, unlike)
    )
    weights = [fitted._model.joint.components[0, "patch"].weight for fitted in (alike, differing)]
    assert weights[0] > 1 and weights[1] < 0.6


def test_rows_of_local_means_are_those_of_the_support(tiny_net):
    fitted = COFTDetector(tiny_net, max_iter=0, random_state=0).fit(stripes(4))
    first = fitted._model.joint.components[0, "patch"].patch_means
    added = (255 * unlike(3)[..., 0]).astype(np.uint8)
    fitted.partial_fit(added)
    means = fitted._model.joint.components[0, "patch"].patch_means
    assert len(means) == len(fitted._model.joint.backbone_scores[0].support.embeddings)
    assert_array_equal(means[: len(first)], first)
    inputs = fitted._read(np.concatenate([stripes(4), added]))
    keep = {"mean": lambda features: features.patches.mean(axis=(1, 2)).numpy()}
    expected = fitted.embedder_.encoders_[0].summarize(inputs, keep, with_patches=True)["mean"]
    assert_allclose(
        means[fitted._model.joint.backbone_scores[0].support.is_shot], expected, atol=1e-6
    )


def test_shots_without_any_difference():
    fitted = COFTDetector(max_iter=1, random_state=0).fit(np.zeros((4, 64, 64)))
    assert np.isfinite(fitted.score_samples(stripes(3))).all()


def test_without_local_density(tiny_net):
    class Vectors(torch.nn.Module):
        def forward(self, images):
            return images.mean(dim=(2, 3))

    class OtherMaps(Vectors):
        def forward_intermediates(self, images):
            raise NotImplementedError

    shots, new = stripes(4), stripes(4, seed=1)
    rows = COFTDetector(max_iter=0, random_state=0).fit(np.random.default_rng(0).random((8, 3)))
    vectors = COFTDetector(Vectors(), max_iter=0, random_state=0).fit(shots)
    other = COFTDetector(OtherMaps(), max_iter=0, random_state=0).fit(shots)
    off = COFTDetector(tiny_net, local=False, max_iter=0, n_views=0, random_state=0).fit(shots)
    assert_array_equal(off.score_samples(new), off.density_.score_samples(off.embed(new)))
    refused = [(fitted.anomaly_map, shots) for fitted in (vectors, other, off)]
    refused.append((rows.anomaly_map, np.ones((2, 3))))
    refused.append((COFTDetector(tiny_net, local="auto").fit, shots))
    for method, X in refused:
        with pytest.raises(ValueError, match="local"):
            method(X)


def spread_shots(spread, n=50, n_views=8, seed=0):
    """Points of shots that differ ``spread`` times as much as two views of one do; support."""
    rng = np.random.default_rng(seed)
    firsts = rng.normal(size=(n, 200), scale=spread)
    views = firsts + rng.normal(size=(n_views, n, 200))
    points = np.concatenate([firsts, views.reshape(-1, 200)])
    return points, Support.allot(range(n), n_views, mirror=False)


def test_likeness_is_one_where_shots_differ_as_views_do():
    for spread, low, high in ((1, 0.97, 1.03), (2**0.5, 0.45, 0.55), (10**0.5, 0.07, 0.13)):
        assert low <= ratio_of_support(*spread_shots(spread)) <= high


def test_likeness_grows_where_shots_differ_less_than_views():
    assert_allclose(ratio_of_support(*spread_shots(0.5)), 4, rtol=0.05)


def test_likeness_does_not_hang_on_order_scale_and_mirror_images():
    points, support = spread_shots(3, n=6)
    expected = ratio_of_support(points, support)
    order = np.random.default_rng(0).permutation(len(points))
    shuffled = Support(None, 100 - support.shot_ids[order], support.roles[order], None)
    assert_allclose(ratio_of_support(7 * points[order] - 3, shuffled), expected)
    sides = Support.allot(range(6), 8, mirror=True)
    far = np.insert(points, [6] * 6, 1e6, axis=0)
    assert_allclose(ratio_of_support(far, sides), expected)


@pytest.mark.parametrize("n_views", [0, 3])
def test_likeness_is_bounded_for_equal_shots_and_one_without_a_pair(n_views):
    rng = np.random.default_rng(0)
    points = np.concatenate([np.ones((4, 5)), 1 + 0.1 * rng.normal(size=(4 * n_views, 5))])
    support = Support.allot(range(4), n_views, mirror=False)
    assert_allclose(ratio_of_support(points, support), MAX_RATIO if n_views else 1)
    assert ratio_of_support(np.ones_like(points), support) == 1
    one = Support.allot(range(1), n_views, mirror=False)
    assert ratio_of_support(points[: len(one.roles)], one) == 1


def test_noise_raises_the_anomaly_score_less_than_without_moves(monkeypatch):
    """By standard deviations of the held-out scores of shots without noise."""
    rng = np.random.default_rng(0)
    x = np.arange(96) + rng.uniform(0, 8, (20, 1, 1))
    clean = np.broadcast_to(128 + 60 * np.sin(x * np.pi / 4), (20, 64, 96))
    shots, normal = clean[:8].astype(np.uint8), clean[8:]
    noisy = (normal + rng.normal(0, 3, normal.shape)).astype(np.uint8)

    def loss():
        fitted = COFTDetector(max_iter=0, random_state=0).fit(shots)
        scores = fitted.calibration_scores_
        return (scores.mean() - fitted.score_samples(noisy).mean()) / scores.std()

    loss_with_moves = loss()
    without = replace(IMAGE_DEFAULTS, has_harmless_changes=False)
    monkeypatch.setattr(Backbone, "defaults", without)
    monkeypatch.setattr(Images, "defaults", without)
    assert loss_with_moves < 0.5 * loss()
