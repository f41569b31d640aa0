import numpy as np
import pytest
from conftest import TinyNet
from numpy.testing import assert_allclose, assert_array_equal

from skcoft import COFTDetector
from skcoft._evidence.backbone_score import N_PROBES, N_VIEWS
from skcoft._evidence.patch_density import ratio_of_support
from skcoft._network.support import MIRROR, PROBE, SHOT, VIEW
from skcoft.density import KernelDensity


def support_of(X, **params):
    fitted = COFTDetector(TinyNet(), max_iter=0, random_state=0, **params).fit(X)
    return fitted._model.joint.backbone_scores[0].support, fitted


def counts(support):
    return {int(role): int(np.sum(support.roles == role)) for role in np.unique(support.roles)}


def view_of_mine(image):
    return image.flip(2)


@pytest.mark.parametrize(
    "params, n_shots, expected",
    [
        ({}, 4, {SHOT: 4, MIRROR: 4, PROBE: 16}),
        ({"augmentation": {"flip": 0}}, 4, {SHOT: 4, PROBE: 16}),
        ({"augmentation": {"degrees": 180}}, 4, {SHOT: 4, MIRROR: 4, VIEW: 32}),
        ({"augmentation": view_of_mine}, 4, {SHOT: 4, VIEW: 32}),
        ({}, 3, {SHOT: 3, MIRROR: 3, VIEW: 24}),
        ({"n_views": 2}, 4, {SHOT: 4, MIRROR: 4, VIEW: 8}),
        ({"n_views": 0}, 4, {SHOT: 4}),
    ],
    ids=["default", "flip", "degrees", "callable", "few", "asked for", "none"],
)
def test_what_a_support_is_made_of(params, n_shots, expected, photos):
    """Of photographs no views, unless they are few or the user says what a view is."""
    assert (N_VIEWS, N_PROBES) == (8, 4)
    assert counts(support_of(photos[:n_shots], **params)[0]) == expected


def test_rows_keep_their_views():
    assert counts(support_of(np.random.default_rng(0).normal(size=(5, 3)))[0]) == {
        SHOT: 5,
        VIEW: 40,
    }


def test_copies_make_shots_few(photos):
    with pytest.warns(UserWarning):
        support, _ = support_of(np.concatenate([photos[:3], photos[:1]]))
    assert counts(support) == {SHOT: 4, MIRROR: 4, VIEW: 32}


def test_densities_do_not_see_probes(photos):
    support, fitted = support_of(photos[:5])
    whole, local = (
        fitted._model.joint.components[0, "image"],
        fitted._model.joint.components[0, "patch"],
    )
    seen = support.roles != PROBE
    fresh = KernelDensity(covariance_type="full")
    fresh.fit(support.embeddings[seen], groups=support.shot_ids[seen], moves=support.moves)
    X = fitted.embed(photos)
    assert_array_equal(whole.fitted.score_samples(X), fresh.score_samples(X))
    assert len(local.patch_means) == len(support.roles) == 5 * 6
    assert_allclose(local.weight, ratio_of_support(local.patch_means, support))
    grid = 6 * 5  # positions of an image
    assert sum(map(len, local.coresets.values())) == 5 * 2 * grid
    more = fitted.partial_fit(photos[5:7])._model.joint.backbone_scores[0].support
    assert counts(more) == {SHOT: 7, MIRROR: 7, PROBE: 28}
