from types import SimpleNamespace

import numpy as np
import pytest
from conftest import TinyNet
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import BaseEstimator, clone
from sklearn.ensemble import IsolationForest
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV

from skcoft import COFTDetector
from skcoft._evidence.held_out import MAX_FOLDS, score_held_out
from skcoft._evidence.image_density import ImageDensity, MeanOfDensities
from skcoft._evidence.threshold import automatic_offset
from skcoft._input.defaults import IMAGE_DEFAULTS, TABULAR_DEFAULTS
from skcoft._network.support import SHOT, VIEW, Support
from skcoft.density import GaussianDensity, KernelDensity
from skcoft.model_selection import OneClassShuffleSplit


def sample(k, n_views=8, d=64, seed=0):
    """Shots and their views (close to them) around one center; then 1,000 unseen normals."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(d, d)) * np.exp(-np.arange(d) / 8)
    normal = rng.normal(size=(k + 1000, d)) @ mixing.T
    views = normal[None, :k] + 0.1 * rng.normal(size=(n_views, k, d)) @ mixing.T
    rows = Support.allot(range(k), n_views, mirror=False)
    embeddings = np.concatenate([normal[:k], views.reshape(-1, d)])
    return Support(embeddings, rows.shot_ids, rows.roles, rows.is_calibration), normal[k:]


def offset_of(part, support):
    roles = support.roles[support.is_calibration]
    return automatic_offset(
        part.held_out_scores[roles == SHOT], part.held_out_scores[roles == VIEW]
    )


class Spy(BaseEstimator):
    """A density that notes what it is told."""

    told = []

    def fit(self, X, y=None, groups=None):
        self.told.append(groups)
        self.rows = X
        return self

    def score_samples(self, X):
        return -np.linalg.norm(X - self.rows.mean(axis=0), axis=1)


@pytest.mark.parametrize(
    "defaults, shape", [(IMAGE_DEFAULTS, "full"), (TABULAR_DEFAULTS, "spherical")]
)
def test_names_of_densities(defaults, shape):
    encoder = SimpleNamespace(network=SimpleNamespace(defaults=defaults))
    built = {
        name: ImageDensity.build(COFTDetector(density=name), encoder).density
        for name in ("kde", "gaussian")
    }
    assert type(built["kde"]) is KernelDensity and type(built["gaussian"]) is GaussianDensity
    assert built["kde"].get_params() == {"bandwidth": "scale", "covariance_type": shape}
    own = KernelDensity(0.5)
    assert ImageDensity.build(COFTDetector(density=own), encoder).density is own


def test_densities_that_know_groups_are_told_the_shots():
    """Of all shots, and of the others where one is held out."""
    support, _ = sample(5, n_views=2)
    Spy.told.clear()
    ImageDensity(Spy()).fit(support)
    assert_array_equal(Spy.told[0], support.shot_ids)
    assert len(Spy.told) == 6
    for told in Spy.told[1:]:
        assert len(told) == 12 and len(np.unique(told)) == 4
    assert_allclose(  # which decides the bandwidth
        ImageDensity(KernelDensity()).fit(support).fitted.bandwidth_,
        KernelDensity().fit(support.embeddings, groups=support.shot_ids).bandwidth_,
    )


def test_densities_of_the_other_shots_are_told_them_too():
    """At the scale of the whole as well: a shot of several images weighs as one."""
    support, _ = sample(5, n_views=0)
    rows, shots = np.r_[0:5, 0, 0], np.r_[0:5, 0, 0]
    copies = support.embeddings[rows] + 0.01 * np.random.default_rng(1).normal(size=(7, 64))
    whole = KernelDensity().fit(copies, groups=shots)
    found = score_held_out(whole, lambda seen: copies, shots, np.full(7, True))
    for shot in range(5):
        others = shots != shot
        fold = KernelDensity().fit_at_scale_of(whole, copies[others], groups=shots[others])
        assert_allclose(found[~others], fold.score_samples(copies[~others]))


def test_scores_are_the_densitys():
    support, unseen = sample(4)
    part = ImageDensity(KernelDensity()).fit(support)
    fresh = KernelDensity().fit(support.embeddings, groups=support.shot_ids)
    assert_array_equal(part.score(unseen), fresh.score_samples(unseen))
    assert part.weight == 1 and not part.needs_patches


@pytest.mark.parametrize("k", [2, 8])
def test_every_calibrating_row_is_held_out_with_its_shot(k):
    support, _ = sample(k)
    part = ImageDensity(KernelDensity(0.7)).fit(support)
    expected = []
    for row in np.flatnonzero(support.is_calibration):
        others = support.embeddings[support.shot_ids != support.shot_ids[row]]
        fitted = KernelDensity(0.7).fit(others)
        expected.append(fitted.score_samples(support.embeddings[row : row + 1])[0])
    assert len(expected) == (k if k == 8 else k * 9)
    assert_allclose(part.held_out_scores, expected)


def test_held_out_scores_keep_the_scale_of_the_whole():
    """The bandwidth is that of all shots, not of those that are left."""
    support, _ = sample(6)
    part = ImageDensity(KernelDensity()).fit(support)
    fixed = ImageDensity(KernelDensity(part.fitted.bandwidth_)).fit(support)
    assert_allclose(part.held_out_scores, fixed.held_out_scores)


def test_of_a_single_shot_every_row_is_held_out_alone():
    support, _ = sample(1, n_views=3)
    part = ImageDensity(KernelDensity()).fit(support)
    b = part.fitted.bandwidth_
    expected = [
        KernelDensity(b)
        .fit(np.delete(support.embeddings, i, 0))
        .score_samples(support.embeddings[i : i + 1])[0]
        for i in range(4)
    ]
    assert_allclose(part.held_out_scores, expected)
    other = ImageDensity(IsolationForest(random_state=0)).fit(support)  # its scale would move
    assert_array_equal(other.held_out_scores, other.fitted.score_samples(support.embeddings))


@pytest.mark.parametrize("density", [KernelDensity(), KernelDensity("loo"), GaussianDensity()])
@pytest.mark.parametrize("k", [4, 8, 16])
def test_false_alarms_on_unseen_normals(density, k):
    """About 5 % on average, where an in-sample threshold would flag most of them."""
    rates, naive = [], []
    for seed in range(20):
        support, unseen = sample(k, seed=seed)
        part = ImageDensity(density).fit(support)
        scores = part.score(unseen)
        rates.append(np.mean(scores < offset_of(part, support)))
        naive.append(np.mean(scores < part.score(support.embeddings).min()))
    assert 0.005 < np.mean(rates) < (0.2 if k == 4 else 0.12)  # four shots tell little
    assert np.mean(naive) > 0.5


def test_no_view_of_a_shot_calibrates_against_that_shot():
    """A density is told only rows of other shots, in ten folds where there are more shots."""
    support, _ = sample(12, n_views=2)
    named = zip(support.embeddings, support.shot_ids, strict=True)
    row_of = {row.tobytes(): shot for row, shot in named}
    seen = []

    class Mixture(GaussianMixture):
        def fit(self, X, y=None):
            seen.append({row_of[row.tobytes()] for row in X})
            return super().fit(X)

        def score_samples(self, X):
            assert not seen[-1] & {row_of[row.tobytes()] for row in X}
            return super().score_samples(X)

    own = support.roles == SHOT
    scores = score_held_out(
        Mixture(reg_covar=1.0), support.embeddings_held_out, support.shot_ids, own
    )
    assert scores.shape == (12,) and np.isfinite(scores).all()
    assert len(seen) == MAX_FOLDS == 10


def test_any_density_can_be_held_out():
    support, unseen = sample(8)
    part = ImageDensity(IsolationForest(random_state=0)).fit(support)
    assert np.mean(part.score(unseen) < offset_of(part, support)) < 0.3


@pytest.mark.parametrize("n_shots", [1, 2])
def test_of_too_few_shots_every_view_is_held_out(n_shots):
    support, _ = sample(n_shots)
    part = ImageDensity(KernelDensity()).fit(support)
    with pytest.warns(UserWarning):
        offset = offset_of(part, support)
    assert offset == part.held_out_scores.min() <= part.score(support.embeddings).min()


def test_several_densities_are_the_mean_on_the_scale_of_held_out_shots():
    support, unseen = sample(8)
    densities = KernelDensity(), GaussianDensity(), IsolationForest(random_state=0)
    alone = [ImageDensity(density).fit(support) for density in densities]
    part = MeanOfDensities([ImageDensity(density) for density in densities]).fit(support)
    assert [type(one) for one in part.fitted] == [type(one) for one in densities]
    mean, deviation = alone[0].held_out_scores.mean(), alone[0].held_out_scores.std()

    def expected(scores):
        standard = [
            (found - one.held_out_scores.mean()) / one.held_out_scores.std()
            for found, one in zip(scores, alone, strict=True)
        ]
        return mean + deviation * np.mean(standard, axis=0)

    assert_allclose(part.score(unseen), expected([one.score(unseen) for one in alone]))
    assert_allclose(part.held_out_scores, expected([one.held_out_scores for one in alone]))
    assert part.held_out_scores.mean() == pytest.approx(mean)
    assert part.weight == 1 and not part.needs_patches
    assert 0.005 < np.mean(part.score(unseen) < offset_of(part, support)) < 0.2


def test_a_density_that_says_the_same_of_all_takes_no_part():
    class Same(Spy):
        def score_samples(self, X):
            return np.zeros(len(X))

    support, unseen = sample(6)
    alone = ImageDensity(KernelDensity()).fit(support)
    part = MeanOfDensities([ImageDensity(KernelDensity()), ImageDensity(Same())]).fit(support)
    assert_allclose(np.ptp(part.score(unseen)) * 2, np.ptp(alone.score(unseen)))


def test_lists_of_densities(photos):
    rows = np.random.default_rng(0).normal(size=(40, 4))
    settings = dict(max_iter=0, random_state=0)
    for X in (rows, photos):
        backbone = {"backbone": TinyNet()} if X is photos else {}
        one = COFTDetector(density="kde", **backbone, **settings).fit(X[:8])
        listed = COFTDetector(density=("kde",), **backbone, **settings).fit(X[:8])
        assert_allclose(listed.score_samples(X), one.score_samples(X), rtol=1e-9)
        assert listed.offset_ == pytest.approx(one.offset_)
        shape = one.density_.covariance_type
        assert [one.covariance_type for one in listed.density_] == [shape]
    own = GaussianDensity(0.5)
    several = COFTDetector(density=["gaussian", own], **settings)
    assert clone(several).density[1] is not own and clone(several).density[1].shrinkage == 0.5
    several.fit(rows[:8]).partial_fit(rows[8:10])
    assert several.density[1] is own and not hasattr(own, "location_")
    assert [density.shrinkage for density in several.density_] == ["oas", 0.5]
    two = COFTDetector([TinyNet(), TinyNet()], density=["kde", "gaussian"], max_iter=0)
    found = two.fit(photos[:6]).density_
    assert [[type(one) for one in of] for of in found] == [[KernelDensity, GaussianDensity]] * 2


def test_a_search_over_lists_of_densities():
    rows, y = np.random.default_rng(0).normal(size=(60, 4)), np.repeat([1, -1], [40, 20])
    rows[40:] += 2
    search = GridSearchCV(
        COFTDetector(max_iter=0, random_state=0),
        {"density": ["kde", ["kde", "gaussian"], [KernelDensity(2.0), "gaussian"]]},
        cv=OneClassShuffleSplit(2, random_state=0),
        error_score="raise",
    ).fit(rows, y)
    assert len(set(search.cv_results_["mean_test_score"])) == 3


@pytest.mark.parametrize("density", [[], ["kde", "mixture"], [["kde"]], ["kde", KernelDensity]])
def test_what_is_no_list_of_densities(density):
    with pytest.raises(ValueError, match="'density' parameter"):
        COFTDetector(max_iter=0, density=density).fit(np.eye(8))
