import numpy as np
import pytest
from sklearn.ensemble import IsolationForest
from sklearn.mixture import GaussianMixture

from skcoft._threshold import fit_density, held_out_scores, join_densities
from skcoft.density import GaussianDensity, KernelDensity


def automatic_offset(fitted, embeddings, shots, own):
    weight, offset = join_densities(fitted, None, embeddings, shots, own, "auto")
    assert weight == 0  # there is no local density
    return offset


def sample(k, n_views=8, d=64, seed=0):
    """Shots and their views (close to them) around one centre; then 1,000 unseen normals."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(d, d)) * np.exp(-np.arange(d) / 8)
    normal = rng.normal(size=(k + 1000, d)) @ mixing.T
    views = normal[None, :k] + 0.1 * rng.normal(size=(n_views, k, d)) @ mixing.T
    embeddings = np.concatenate([normal[:k], views.reshape(-1, d)])
    shots = np.tile(np.arange(k), n_views + 1)
    return embeddings, shots, np.arange(len(shots)) < k, normal[k:]


@pytest.mark.parametrize("density", [KernelDensity(), KernelDensity("loo"), GaussianDensity()])
@pytest.mark.parametrize("k", [4, 8, 16])
def test_false_alarms_on_unseen_normals(density, k):
    """About 5 % on average, where an in-sample threshold would flag most of them."""
    rates, naive = [], []
    for seed in range(20):
        embeddings, shots, own, unseen = sample(k, seed=seed)
        fitted = fit_density(density, embeddings, shots)
        scores = fitted.score_samples(unseen)
        rates.append(np.mean(scores < automatic_offset(fitted, embeddings, shots, own)))
        naive.append(np.mean(scores < fitted.score_samples(embeddings).min()))
    assert 0.005 < np.mean(rates) < (0.2 if k == 4 else 0.12)  # four shots tell little
    assert np.mean(naive) > 0.5


def test_no_view_of_a_shot_calibrates_against_that_shot():
    """A density is told only rows of other shots, for each of the shots in turn."""
    embeddings, shots, own, _ = sample(12, n_views=2)
    row_of = {row.tobytes(): shot for row, shot in zip(embeddings, shots, strict=True)}
    seen = []

    class Spy(GaussianMixture):
        def fit(self, X, y=None):
            seen.append({row_of[row.tobytes()] for row in X})
            return super().fit(X)

        def score_samples(self, X):
            assert not seen[-1] & {row_of[row.tobytes()] for row in X}
            return super().score_samples(X)

    scores = held_out_scores(Spy(reg_covar=1.0), embeddings, shots, own)
    assert scores.shape == (12,) and np.isfinite(scores).all()
    assert len(seen) == 10


def test_any_density_can_be_held_out():
    embeddings, shots, own, unseen = sample(8)
    fitted = IsolationForest(random_state=0).fit(embeddings)
    offset = automatic_offset(fitted, embeddings, shots, own)
    assert np.mean(fitted.score_samples(unseen) < offset) < 0.3


def test_one_shot_warns():
    embeddings, shots, own, _ = sample(1)
    fitted = fit_density(KernelDensity(), embeddings, shots)
    with pytest.warns(UserWarning, match="cannot calibrate a threshold on one image"):
        offset = automatic_offset(fitted, embeddings, shots, own)
    assert np.isfinite(offset)
    assert offset <= fitted.score_samples(embeddings).min()  # every view is held out


def test_contamination_is_a_share_of_the_shots():
    embeddings, shots, own, _ = sample(8)
    fitted = fit_density(KernelDensity(), embeddings, shots)
    _, offset = join_densities(fitted, None, embeddings, shots, own, 0.25)
    assert np.sum(fitted.score_samples(embeddings[own]) < offset) == 2
