"""Labelled anomalies in the score: a head that tells shots from them."""

import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.metrics import roc_auc_score

from skcoft import COFTDetector
from skcoft._evidence.labelled import LabelledHead, fit_head
from skcoft._network.support import MIRROR, SHOT, Support
from skcoft.datasets import make_plates

FAST = {"backbone": "embedded", "image_size": 96, "max_iter": 0, "random_state": 0}


@pytest.fixture(scope="module")
def plates():
    return make_plates(20, 16, size=96, random_state=0)


def fit(plates, count=4, shots=8, **options):
    """Fit a detector on shots and the first anomalies."""
    anomalies = plates.images[20 : 20 + count]
    X, y = np.concatenate([plates.images[:shots], anomalies]), [1] * shots + [-1] * count
    return COFTDetector(**{**FAST, "negatives": "labelled", **options}).fit(X, y)


@pytest.fixture(scope="module")
def fitted(plates):
    return fit(plates)


def test_head_is_a_ridge_regression_in_which_both_sides_weigh_the_same():
    rng = np.random.default_rng(0)
    normals, anomalies = rng.normal(size=(12, 4)), rng.normal(1, 1, size=(3, 4))
    rows, targets = np.concatenate([normals, anomalies]), np.repeat([0, -1], [12, 3])
    weights = np.repeat([0.5 / 12, 0.5 / 3], [12, 3])
    centered = rows - weights @ rows
    scatter = (centered.T * weights) @ centered
    penalty = 0.1 * np.trace(scatter) * np.eye(4)
    expected = np.linalg.solve(scatter + penalty, (centered.T * weights) @ (targets + 0.5))
    coefficients, intercept = fit_head(normals, anomalies)
    assert_allclose(coefficients, expected, rtol=1e-10)
    assert_allclose(intercept, -0.5 - weights @ rows @ expected, rtol=1e-10)
    again, _ = fit_head(np.repeat(normals, 2, axis=0), anomalies)
    assert_allclose(again, expected, rtol=1e-9)
    wide, _ = fit_head(7 * normals, 7 * anomalies)  # of any scale
    assert_allclose(7 * wide, expected, rtol=1e-9)


def test_equal_rows_on_both_sides_tell_nothing():
    rows = np.ones((3, 2))
    coefficients, intercept = fit_head(rows, rows[:1])
    assert_array_equal(coefficients, 0)
    assert intercept == -0.5


@pytest.mark.parametrize(("count", "weight"), [(1, 1 / 6), (5, 1 / 2), (20, 4 / 5)])
def test_the_more_anomalies_the_more_the_head_counts(count, weight):
    rng = np.random.default_rng(0)
    support = Support.allot(np.arange(4), 0, True)
    rows, anomalies = rng.normal(size=(8, 3)), rng.normal(size=(count, 3))
    copies = np.concatenate([anomalies, anomalies])  # count once
    support = Support(
        rows, support.shot_ids, support.roles, support.is_calibration, None, None, copies
    )
    assert LabelledHead().fit(support).weight == pytest.approx(weight)


def test_shots_are_scored_by_heads_that_have_not_seen_them():
    rng = np.random.default_rng(0)
    rows, anomalies = rng.normal(size=(10, 3)), rng.normal(1, 1, size=(2, 3))
    shots, roles = np.tile(np.arange(5), 2), np.repeat([SHOT, MIRROR], 5)
    calibrating = np.ones(10, dtype=bool)
    head = LabelledHead().fit(Support(rows, shots, roles, calibrating, None, None, anomalies))
    for shot in range(5):
        coefficients, intercept = fit_head(rows[shots != shot], anomalies)
        expected = rows[shots == shot] @ coefficients + intercept
        assert_allclose(head.held_out_scores[shots == shot], expected, rtol=1e-9)
    assert not np.allclose(head.held_out_scores, head.score(rows))


def test_score_is_that_of_the_densities_and_the_heads(plates, fitted):
    X = plates.images[8:20]
    plain = COFTDetector(**FAST).fit(plates.images[:8])
    part = fitted._model.joint.components[0, "labelled"]
    whole = plain._model.joint.components[0, "image"]
    head = part.score(fitted.embed(X)) - part.held_out_scores.mean()
    expected = 4 / 9 * head * whole.held_out_scores.std() / part.held_out_scores.std()
    assert_allclose(fitted.score_samples(X) - plain.score_samples(X), expected, rtol=1e-6)


def test_further_anomalies_of_a_labelled_kind_score_lower():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(8, 50))
    kind = np.zeros(50)
    kind[:5] = 1.5
    support = Support.allot(np.arange(8), 0, False)
    labelled = rng.normal(size=(4, 50)) + kind
    head = LabelledHead().fit(
        Support(
            rows, support.shot_ids, support.roles, support.is_calibration, None, None, labelled
        )
    )
    unseen = rng.normal(size=(100, 50))
    assert np.mean(head.score(unseen + kind) < head.score(unseen)) == 1
    assert roc_auc_score(np.repeat([1, 0], 100), head.score(np.r_[unseen, unseen + kind])) > 0.75


@pytest.mark.slow
def test_real_anomalies_of_a_labelled_kind_are_found_better(shared):
    """Castings: five of their blowholes labelled, and others scored."""
    data = np.load(shared / "data" / "casting.npz")
    (kind,) = (name for name in data if name.startswith("anomaly_"))
    shots, anomalies, normal = data["normal"][:8], data[kind][:5], data["normal"][64:94]
    X, y = np.concatenate([shots, anomalies]), [1] * 8 + [-1] * 5
    unseen = np.concatenate([normal, data[kind][5:35]])
    truth = np.repeat([1, -1], [30, 30])
    options = {"max_iter": 0, "random_state": 0}
    plain = COFTDetector(**options).fit(X, y).score(unseen, truth)
    told = COFTDetector(**options, negatives="labelled").fit(X, y).score(unseen, truth)
    assert told > plain + 0.01


def test_no_head_without_being_asked_and_none_for_rows(plates):
    X, y = plates.images[[0, 1, 2, 3, 20]], [1, 1, 1, 1, -1]
    assert set(COFTDetector(**FAST).fit(X, y)._model.joint.components) == {
        (0, "image"),
        (0, "patch"),
    }
    rows = np.random.default_rng(0).normal(size=(9, 4))
    labels = [1] * 7 + [-1] * 2
    of_rows = COFTDetector(max_iter=1, negatives="labelled", random_state=0).fit(rows, labels)
    assert set(of_rows._model.joint.components) == {(0, "image")}


@pytest.mark.filterwarnings("ignore:contamination")  # of so few shots
@pytest.mark.parametrize("shots", [1, 2])
@pytest.mark.parametrize("local", [True, False])
def test_few_shots_and_no_positions(plates, shots, local):
    found = fit(plates, 1, shots, local=local).score_samples(plates.images)
    assert np.isfinite(found).all()


def test_it_is_kept_by_copies_files_and_more_shots(plates, fitted, tmp_path):
    X = plates.images[8:]
    expected = fitted.score_samples(X)
    assert_array_equal(pickle.loads(pickle.dumps(fitted)).score_samples(X), expected)
    fitted.save(tmp_path / "told.skcoft")
    again = COFTDetector.load(tmp_path / "told.skcoft")
    assert_array_equal(again.score_samples(X), expected)
    again.partial_fit(plates.images[8:12])
    assert again._model.joint.components[0, "labelled"].weight == 4 / 9
    assert not np.allclose(again.score_samples(X), expected)
    with pytest.raises(ValueError, match="negatives differs from its value in fit"):
        again.set_params(negatives="cutpaste").partial_fit(plates.images[12:14])


def test_it_is_exported(plates, fitted, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    fitted.to_onnx(tmp_path / "told.onnx", plates.images[:2])
    session = runtime.InferenceSession(tmp_path / "told.onnx")
    inputs = np.float32(plates.images[8:].transpose(0, 3, 1, 2) / 255)
    found = session.run(["score"], {"images": inputs})[0]
    spread = fitted.calibration_scores_.std()
    assert_allclose(found, fitted.score_samples(plates.images[8:]), atol=1e-4 * spread)


def test_each_scale_and_backbone_has_one(plates):
    both = fit(plates, backbone=["embedded", "embedded"], image_size=[64, 96])
    assert {key for key in both._model.joint.components if key[1] == "labelled"} == {
        (0, "labelled"),
        (1, "labelled"),
    }


def test_memory_knows_the_anomalies(plates, tmp_path):
    searched = clone(COFTDetector(**FAST, negatives="labelled", memory=str(tmp_path)))
    for count in (1, 3, 1):
        expected = fit(plates, count).score_samples(plates.images[8:12])
        X = np.concatenate([plates.images[:8], plates.images[20 : 20 + count]])
        found = searched.fit(X, [1] * 8 + [-1] * count).score_samples(plates.images[8:12])
        assert_array_equal(found, expected)
