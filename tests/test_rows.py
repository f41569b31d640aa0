import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from skcoft import COFTDetector
from skcoft._rows import LIFT, RowsNetwork
from skcoft.density import GaussianDensity, KernelDensity


@pytest.mark.parametrize("shots", [8, 16, 64])
@pytest.mark.parametrize(
    "name, density", [("kde", KernelDensity()), ("gaussian", GaussianDensity())]
)
def test_malignant_rows_against_benign_shots(name, density, shots):
    """Better than chance; at most 2 points below the density on standardised features."""
    X, y = load_breast_cancer(return_X_y=True)
    ours, plain = [], []
    for seed in range(5):
        benign = np.random.default_rng(seed).permutation(np.flatnonzero(y == 1))
        train, test = benign[:shots], np.r_[benign[shots:], np.flatnonzero(y == 0)]
        fitted = COFTDetector(density=name, random_state=seed).fit(X[train])
        ours.append(roc_auc_score(y[test], fitted.score_samples(X[test])))
        scaler = StandardScaler().fit(X[train])
        density.fit(scaler.transform(X[train]))
        plain.append(roc_auc_score(y[test], density.score_samples(scaler.transform(X[test]))))
    assert np.mean(ours) > 0.85
    assert np.mean(ours) > np.mean(plain) - 0.02


def test_network_starts_as_standardised_rows():
    rows = np.random.default_rng(0).normal(size=(20, 3)) * [1, 10, 0] + [0, 5, 7]
    out = RowsNetwork(rows, seed=0)(torch.from_numpy(rows))
    expected = StandardScaler().fit_transform(rows) / 3**0.5
    np.testing.assert_allclose(out[:, :3].detach(), expected, atol=1e-6)
    assert (out[:, 3] == LIFT).all()


def test_far_rows_score_low_and_finite():
    rows = np.random.default_rng(0).normal(size=(20, 3))
    fitted = COFTDetector(random_state=0).fit(rows)
    scores = fitted.score_samples(rows.mean(0) + np.array([0, 3, 10, 100, 1e30])[:, None])
    assert np.isfinite(scores).all()
    assert (np.diff(scores[:4]) < 0).all() and scores[4] < scores[2]


def test_options_of_image_views_are_refused():
    with pytest.raises(ValueError, match="augmentation={'degrees': 9} sets the views of images"):
        COFTDetector(augmentation={"degrees": 9}).fit(np.eye(4))
