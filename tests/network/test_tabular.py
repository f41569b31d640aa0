import pickle

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from skcoft import COFTDetector
from skcoft._network.tabular import TabularNetwork
from skcoft.density import GaussianDensity, KernelDensity


@pytest.mark.parametrize("shots", [8, 16, 64])
@pytest.mark.parametrize(
    "name, density", [("kde", KernelDensity()), ("gaussian", GaussianDensity())]
)
def test_malignant_samples_are_anomalies_among_benign_ones(name, density, shots):
    """ROC AUC above 0.85, and at most 0.02 below the density on standardised features."""
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


def test_the_untrained_network_standardises_rows():
    rows = np.random.default_rng(0).normal(size=(20, 3)) * [1, 10, 0] + [0, 5, 7]
    out = TabularNetwork(rows, seed=0)(torch.from_numpy(rows))
    expected = StandardScaler().fit_transform(rows) / 3**0.5
    np.testing.assert_allclose(out[:, :3].detach(), expected, atol=1e-6)
    assert (out[:, 3] == 5).all()


def test_far_rows_score_low_and_finite():
    rows = np.random.default_rng(0).normal(size=(20, 3))
    fitted = COFTDetector(random_state=0).fit(rows)
    scores = fitted.score_samples(rows.mean(0) + np.array([0, 3, 10, 100, 1e30])[:, None])
    assert np.isfinite(scores).all()
    assert (np.diff(scores[:4]) < 0).all() and scores[4] < scores[2]


def test_options_of_image_views_are_refused():
    with pytest.raises(ValueError, match="augmentation"):
        COFTDetector(augmentation={"degrees": 9}).fit(np.eye(4))


@pytest.fixture(scope="module")
def network():
    """A network for four features, one of them constant, and many rows."""
    rows = np.random.default_rng(0).normal(size=(4000, 4)) * [1, 10, 0, 100] + [0, 5, 7, -3]
    return TabularNetwork(rows, seed=0), torch.from_numpy(rows)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_network_has_one_hidden_layer_of_64(network):
    first, activation, last = network[0].body
    assert (first.in_features, first.out_features) == (4, 64)
    assert isinstance(activation, torch.nn.ReLU)
    assert (last.in_features, last.out_features) == (64, 4)
    assert first.weight.abs().max() > 0 and first.bias.abs().max() > 0
    for parameter in last.parameters():
        assert (parameter == 0).all()


def test_the_perceptron_is_added_to_standardised_rows(network):
    network, rows = network[0], network[1][:9]
    other = TabularNetwork(few_rows(), seed=0)
    other.load_state_dict(network.state_dict())
    torch.nn.init.normal_(other.body[2].weight, generator=generator())
    x = ((rows - network.mean) / network.scale).float()
    expected = (x + other.body(x)) / 4**0.5
    np.testing.assert_allclose(other(rows)[:, :4].detach(), expected.detach(), rtol=1e-6)
    assert not np.allclose(expected.detach(), x / 2)


def few_rows():
    return np.random.default_rng(1).normal(size=(5, 4))


def test_initial_weights_depend_on_the_seed_only():
    state = torch.get_rng_state()
    weights = [TabularNetwork(few_rows(), seed).body[0].weight for seed in (0, 0, 1)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert torch.equal(torch.get_rng_state(), state)


def test_rows_are_clipped_at_10_000_standard_deviations(network):
    network, rows = network
    far = rows[:1] + torch.tensor([1e30, -1e30, 0, 0])
    out = network(far)[0].detach()
    np.testing.assert_allclose(out[:2], [1e4 / 2, -1e4 / 2])
    near = network.mean + 9000 * network.scale
    np.testing.assert_allclose(network(near[None])[0, :4].detach(), 4500, rtol=1e-6)


@pytest.mark.parametrize("errors, is_spread", [(8, False), (12, True)])
def test_rounding_errors_of_a_constant_feature_are_not_its_scale(errors, is_spread):
    """Up to 10 rounding errors of its largest value."""
    spread = 1e8 * errors * np.finfo(float).eps
    rows = 1e8 + spread * np.resize([1.0, -1.0], (20, 1))
    expected = spread if is_spread else 1
    assert TabularNetwork(rows, 0).scale.item() == pytest.approx(expected, rel=0.05)


def test_views_add_noise_and_mask(network):
    """Noise of 0.1 standard deviations; a tenth of the values, independent of each other."""
    network, rows = network
    views = network.views(rows, generator())
    masked = views == network.mean
    varied = [0, 1, 3]
    np.testing.assert_allclose(masked[:, varied].double().mean(0), 0.1, atol=0.015)
    both = masked[:, 0] & masked[:, 1]
    assert both.double().mean() == pytest.approx(0.01, abs=0.005)
    noise = ((views - rows) / network.scale)[~masked].view(-1)
    assert noise.mean() == pytest.approx(0, abs=0.003)
    assert noise.std() == pytest.approx(0.1, abs=0.002)
    assert noise.abs().max() > 0.3  # normal, so not bounded
    assert torch.equal(network.views(rows, generator()), views)
    assert not torch.equal(network.views(rows, generator(1)), views)


def test_shuffled_rows_have_independent_features():
    """Without errors, each feature keeps its values, in another order."""
    common = np.random.default_rng(0).normal(size=(4000, 1))
    rows = common * [1, 1, 10]
    network = TabularNetwork(rows, seed=0)
    network.scale.fill_(0)  # no errors
    shuffled = network.shuffled(torch.from_numpy(rows), generator())
    np.testing.assert_array_equal(shuffled.sort(dim=0)[0], np.sort(rows, axis=0))
    assert (torch.corrcoef(shuffled.T) - torch.eye(3)).abs().max() < 0.05
    assert abs(np.corrcoef(shuffled[:, 0], rows[:, 0])[0, 1]) < 0.05


def test_half_of_the_shuffled_values_have_errors_of_2_standard_deviations():
    rows = np.array([[-1.0, -10], [1, 10]]).repeat(2000, axis=0)
    network = TabularNetwork(rows, seed=0)
    rows = torch.zeros(4000, 2, dtype=torch.float64)
    error = (network.shuffled(rows, generator()) / network.scale).numpy()
    has_error = error != 0
    np.testing.assert_allclose(has_error.mean(axis=0), 0.5, atol=0.03)
    assert abs(np.corrcoef(has_error.T)[0, 1]) < 0.05
    np.testing.assert_allclose([column[column != 0].std() for column in error.T], 2, atol=0.08)
    assert error.mean() == pytest.approx(0, abs=0.05)
    assert np.abs(error).max() > 6  # normal, so not bounded


def test_a_held_out_row_is_standardised_by_the_other_rows():
    """The density is fitted on the other rows as well. The network keeps the means of all."""
    X = np.random.default_rng(3).normal(size=(5, 4))
    fitted = COFTDetector(max_iter=0, random_state=0).fit(X)
    support = fitted._model.joint.backbone_scores[0].support
    component = fitted._model.joint.components[0, "image"]
    bandwidth = component.fitted.bandwidth_
    for i in range(5):
        others = support.shot_ids != i
        refitted = TabularNetwork(np.delete(X, i, axis=0), seed=0)
        with torch.inference_mode():
            features = torch.nn.functional.normalize(
                refitted(torch.from_numpy(support.standardizer.rows))
            )
        embeddings = features.double().numpy()
        density = KernelDensity(bandwidth).fit(embeddings[others])
        expected = density.score_samples(embeddings[i : i + 1])[0]
        assert component.held_out_scores[i] == pytest.approx(expected, rel=1e-4)
    assert_allclose(support.standardizer.rows[:5], X)
    assert_array_equal(support.standardizer.is_reference, np.arange(45) < 5)
    one_shot = np.arange(45) < 1  # has no standard deviation
    assert support.embeddings_held_out(one_shot) is support.embeddings


def test_added_rows_do_not_change_the_standardisation():
    X = np.random.default_rng(4).normal(size=(9, 3))
    fitted = COFTDetector(max_iter=0, random_state=0).fit(X[:5]).partial_fit(X[5:])
    support = fitted._model.joint.backbone_scores[0].support
    assert len(support.standardizer.rows) == len(support.shot_ids) == 9 * 9
    without_added = support.shot_ids != 7
    assert_allclose(support.embeddings_held_out(without_added), support.embeddings, atol=1e-6)
    assert not np.allclose(support.embeddings_held_out(support.shot_ids != 2), support.embeddings)
    loaded = pickle.loads(pickle.dumps(fitted))
    assert_array_equal(
        loaded.partial_fit(X[:1] + 1).calibration_scores_[:9],
        fitted.partial_fit(X[:1] + 1).calibration_scores_[:9],
    )


@pytest.mark.parametrize("n", [4, 8, 16])
@pytest.mark.parametrize("max_iter", [0, 20])
def test_the_false_positive_rate_is_about_5_percent(n, max_iter):
    """On average over draws. With 4 shots it was 27 % without held-out standardisation."""
    rates = []
    for seed in range(12):
        X = np.random.default_rng(seed).normal(size=(n + 200, 10))
        fitted = COFTDetector(max_iter=max_iter, random_state=seed).fit(X[:n])
        rates.append(np.mean(fitted.predict(X[n:]) == -1))
    assert np.mean(rates) < 0.12
