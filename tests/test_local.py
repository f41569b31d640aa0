import copy

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import roc_auc_score

from skcoft import COFTDetector
from skcoft._backbone import build_backbone
from skcoft._images import read_input
from skcoft._local import LEAST, SUPPORT, LocalDensity, choose_depths, local_embeddings, lowest
from skcoft._threshold import held_out_scores, likeness


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


def test_depths_of_a_pyramid_and_of_a_transformer():
    assert choose_depths([(64, 64), (32, 32), (16, 16), (8, 8), (4, 4)]) == [2, 3]
    assert choose_depths([(32, 48), (32, 48), (16, 24), (8, 12), (8, 12)]) == [1, 2]
    assert choose_depths([(16, 16)] * 12) == [5, 8]
    assert choose_depths([(4, 4)]) == [0]


@pytest.mark.parametrize(
    ("name", "size", "depths", "shape"),
    [
        ("embedded", (96, 64), [2, 3], (12, 8, 128)),
        ("mobilenetv2_050", (64, 64), [2, 3], (8, 8, 64)),
        ("convnext_atto", (64, 96), [1, 2], (8, 12, 128)),
        ("vit_tiny_patch16_224", (64, 64), [5, 8], (4, 4, 128)),
    ],
)
def test_backbones_yield_positions_in_the_same_pass(name, size, depths, shape):
    network, _ = build_backbone(name, None, size, None, 0)
    images = torch.rand(2, 3, *size)
    with torch.inference_mode():
        features, positions = network.features_and_positions(images)
        assert_allclose(features, network(images), rtol=1e-4, atol=1e-5)
    assert network.depths == depths
    assert positions.shape == (2, *shape)


def test_every_depth_weighs_the_same():
    gen = torch.Generator().manual_seed(0)
    fine, coarse = torch.rand(2, 5, 8, 8, generator=gen), torch.rand(2, 7, 4, 4, generator=gen)
    positions = local_embeddings([fine, 1000 * coarse])
    assert positions.shape == (2, 8, 8, 12)
    assert_allclose(positions[..., :5].square().sum(-1), 0.5, rtol=1e-5)
    assert_allclose(positions, local_embeddings([fine, coarse]), rtol=1e-4, atol=1e-6)


def test_large_maps_are_bounded():
    assert local_embeddings([torch.rand(1, 2, 100, 20)]).shape == (1, 32, 20, 2)


def test_memory_is_bounded_and_a_held_out_shot_is_unseen():
    rng = np.random.default_rng(0)
    positions = rng.normal(size=(12, 30, 30, 4)).astype(np.float32)
    positions[3] += 50  # as far off from the others as can be
    density = LocalDensity(0).add(positions, np.arange(12), 12)
    assert sum(map(len, density.coresets.values())) <= SUPPORT
    assert density.held_out.argmin() == 3
    assert density.held_out[3] < density.in_sample[3] - 100
    more = rng.normal(size=(80, 30, 30, 4)).astype(np.float32)
    density.add(more, np.arange(12, 92), 80)
    assert {len(points) for points in density.coresets.values()} == {LEAST}
    assert len(density.held_out) == len(density.in_sample) == 92


def test_image_score_is_the_mean_of_the_least_likely_hundredth():
    maps = np.random.default_rng(0).permuted(np.tile(np.arange(400.0), (3, 1)), axis=1)
    assert_array_equal(lowest(maps.reshape(3, 20, 20)), 1.5)
    assert_array_equal(lowest(np.array([[[3.0, 1.0], [2.0, 5.0]]])), 1.0)


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
    assert np.sum(fitted.decision_function(stripes(8)) < 0) <= 4


def test_scores_join_both_densities(tiny_net):
    X, params = stripes(4, seed=10), dict(augmentation={"flip": 0}, max_iter=0, random_state=0)
    joined, whole = (
        COFTDetector(tiny_net, local=local, **params).fit(stripes(8)) for local in (True, False)
    )
    assert_array_equal(joined.density_.score_samples(joined.embed(X)), whole.score_samples(X))
    inputs = read_input(joined, X, reset=False)
    local = lowest(joined.embedder_._embed(inputs, joined._local.log_maps)[1])
    weight = joined._local_weight
    expected = whole.score_samples(X) + weight * (local - joined._local.location)
    assert_allclose(joined.score_samples(X), expected)
    assert weight > 0


@pytest.mark.parametrize("n_shots", [2, 3, 8])
def test_images_count_with_their_mirror_images(tiny_net, n_shots):
    shots, X = stripes(n_shots), stripes(4, seed=10)
    fitted = COFTDetector(tiny_net, max_iter=0, random_state=0).fit(shots)
    once = copy.copy(fitted)
    once._mirror = False
    mirrored = np.ascontiguousarray(X[:, :, ::-1])
    scores = (once.score_samples(X) + once.score_samples(mirrored)) / 2
    assert_allclose(fitted.score_samples(X), scores, rtol=1e-6)
    assert_allclose(fitted.score_samples(mirrored), scores, rtol=1e-6)
    maps = (once.anomaly_map(X) + once.anomaly_map(mirrored)[:, :, ::-1]) / 2
    assert_allclose(fitted.anomaly_map(X), maps, rtol=1e-5, atol=1e-5)
    assert_allclose(fitted.anomaly_map(mirrored), maps[:, :, ::-1], rtol=1e-5, atol=1e-5)
    # held-out scores are of a shot and its mirror image, and of other shots' kernels alone
    rows = fitted._own | fitted._mirrored
    whole = held_out_scores(fitted.density_, fitted._support, fitted._shots, rows)
    local = fitted._local.held_out[rows[fitted._local.calibrated]] - fitted._local.location
    expected = (whole + fitted._local_weight * local).reshape(2, n_shots).mean(axis=0)
    assert_allclose(fitted.calibration_scores_, expected)


def test_no_mirror_images_where_views_have_none(tiny_net):
    for changes in ({"augmentation": {"flip": 0}}, {"augmentation": lambda x: x}, {"n_views": 0}):
        fitted = COFTDetector(tiny_net, max_iter=0, random_state=0, **changes).fit(stripes(4))
        X = stripes(2, seed=3)
        assert not fitted._mirrored.any()
        assert (fitted.score_samples(X) != fitted.score_samples(X[:, :, ::-1])).all()


def unlike(n, seed=0):
    """Images that have nothing in common."""
    rng = np.random.default_rng(seed)
    coarse = rng.random((n, 4, 6, 3))
    return coarse.repeat(16, axis=1).repeat(16, axis=2)


def test_shots_that_differ_weigh_local_density_less(tiny_net):
    alike, differing = (
        COFTDetector(tiny_net, max_iter=0, random_state=0).fit(make(8))
        for make in (stripes, unlike)
    )
    kept = [~fitted._mirrored for fitted in (alike, differing)]
    shares = [
        likeness(f._local.means[rows], f._shots[rows], f._own[rows])
        for f, rows in zip((alike, differing), kept, strict=True)
    ]
    assert shares[0] > 1 and shares[1] < 0.6
    for fitted, share in zip((alike, differing), shares, strict=True):
        rows = fitted._own | fitted._mirrored
        whole = held_out_scores(fitted.density_, fitted._support, fitted._shots, rows)
        assert_allclose(fitted._local_weight, share * whole.std() / fitted._local.scale)


def test_rows_of_local_means_are_those_of_the_support(tiny_net):
    fitted = COFTDetector(tiny_net, max_iter=0, random_state=0).fit(stripes(4))
    first = fitted._local.means
    added = (255 * unlike(3)[..., 0]).astype(np.uint8)
    fitted.partial_fit(added)
    assert len(fitted._local.means) == len(fitted._support)
    assert_array_equal(fitted._local.means[: len(first)], first)
    own = fitted._local.means[fitted._own]
    _, positions = fitted.embedder_._embed(
        read_input(fitted, np.concatenate([stripes(4), added]), reset=False), np.asarray
    )
    assert_allclose(own, positions.mean(axis=(1, 2)), atol=1e-6)


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

    shots = stripes(4)
    rows = COFTDetector(max_iter=0, random_state=0).fit(np.random.default_rng(0).random((8, 3)))
    vectors = COFTDetector(Vectors(), max_iter=0, random_state=0).fit(shots)
    other = COFTDetector(OtherMaps(), max_iter=0, random_state=0).fit(shots)
    off = COFTDetector(tiny_net, local=False, max_iter=0, n_views=0, random_state=0).fit(shots)
    assert_array_equal(off.score_samples(shots), off.density_.score_samples(off.embed(shots)))
    for fitted, X in ((rows, np.ones((2, 3))), (vectors, shots), (other, shots), (off, shots)):
        with pytest.raises(ValueError, match="anomaly_map needs"):
            fitted.anomaly_map(X)
    with pytest.raises(ValueError, match="'local' parameter"):
        COFTDetector(tiny_net, local="auto").fit(shots)
