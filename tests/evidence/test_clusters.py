"""Several kinds of normal images in one detector."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from skcoft import COFTDetector
from skcoft._evidence import clusters
from skcoft._evidence.clusters import ClusterScales, cluster_shots
from skcoft._evidence.joint_score import JointScore
from skcoft._evidence.limits import lower_limit
from skcoft.datasets import make_plates


def rows_around(*centers, n=8, d=50, spread=1.0):
    """Rows around unit vectors times a distance, n for each."""
    rng = np.random.default_rng(0)
    return np.concatenate(
        [rng.normal(size=(n, d)) * spread / d**0.5 + 3 * np.eye(d)[c] for c in centers]
    )


def test_kinds_that_are_far_apart_are_clusters():
    rows = rows_around(0, 1, 2)
    assert cluster_shots(rows, np.arange(24)).tolist() == [0] * 8 + [1] * 8 + [2] * 8


def test_the_largest_cluster_is_the_first():
    rows = rows_around(0, 1)[3:]
    assert cluster_shots(rows, np.arange(13)).tolist() == [1] * 5 + [0] * 8


@pytest.mark.parametrize("n", [4, 8, 32])
def test_rows_of_one_kind_are_one_cluster(n):
    assert not cluster_shots(rows_around(0, n=n), np.arange(n)).any()


def test_fewer_shots_than_two_clusters_need_are_one():
    assert not cluster_shots(rows_around(0, 1, n=4)[1:], np.arange(7)).any()


def test_few_other_shots_join_the_nearest_cluster():
    """Three images of another object are no kind of their own: they cannot show how it varies."""
    rows = np.r_[rows_around(0, 1), rows_around(2, n=3) + 0.1 * np.eye(50)[1]]
    labels = cluster_shots(rows, np.arange(19))
    assert labels.max() == 1 and len(set(labels[:8])) == len(set(labels[8:16])) == 1


def test_a_cluster_may_be_the_anomalies_that_the_user_expects():
    rows = rows_around(0, 1, n=16)[:20]
    assert cluster_shots(rows, np.arange(20)).tolist() == [0] * 16 + [1] * 4
    assert cluster_shots(rows, np.arange(20), 0.1).tolist() == [0] * 16 + [1] * 4
    assert not cluster_shots(rows, np.arange(20), 0.2).any()
    assert not cluster_shots(rows_around(0, 1), np.arange(16), 0.5).any()


def test_duplicates_count_once_and_have_the_cluster_of_their_shot():
    rows = np.repeat(rows_around(0, 1, n=4), 2, axis=0)
    ids = np.repeat(np.arange(0, 16, 2), 2)
    assert cluster_shots(rows, ids).tolist() == [0] * 8 + [1] * 8
    few = np.repeat(np.arange(0, 16, 4), 4)  # four shots
    assert not cluster_shots(rows, few).any()


def test_of_many_shots_some_are_compared(monkeypatch):
    rows = rows_around(0, 1, n=40)
    expected = cluster_shots(rows, np.arange(80))
    monkeypatch.setattr(clusters, "MAX_COMPARED_SHOTS", 20)
    assert_array_equal(cluster_shots(rows, np.arange(80)), expected)


def test_scales_bring_medians_and_limits_together():
    rng = np.random.default_rng(0)
    scores, labels = (
        np.r_[rng.normal(100, 5, 12), rng.normal(-9, 50, 8)],
        np.repeat([0, 1], [12, 8]),
    )
    scales = ClusterScales.from_held_out(scores, labels)
    rescaled = scales.apply(scores, labels)
    assert_allclose(rescaled[:12], scores[:12])
    first, second = rescaled[:12], rescaled[12:]
    assert_allclose(np.median(second), np.median(first))
    assert_allclose(lower_limit(second), lower_limit(first))
    assert (np.argsort(second) == np.argsort(scores[12:])).all()


def test_scales_differ_in_level_or_in_width():
    medians = np.array([0.0, 0.0])
    assert not ClusterScales(medians, np.array([10.0, 39.0])).differ
    assert ClusterScales(medians, np.array([10.0, 41.0])).differ
    assert not ClusterScales(np.array([0.0, 9.0]), np.array([10.0, 20.0])).differ
    assert ClusterScales(np.array([11.0, 0.0]), np.array([10.0, 20.0])).differ


def test_equal_scores_keep_their_differences():
    scales = ClusterScales.from_held_out(
        np.r_[np.full(4, 3.0), np.full(4, 5.0)], np.repeat([0, 1], 4)
    )
    assert_allclose(scales.apply(np.array([2.0, 4.0]), np.array([0, 1])), [2, 2])


@pytest.fixture(scope="module")
def products():
    """Images of two products, 16 each: grey plates with holes, and a striped cloth."""
    rng = np.random.default_rng(0)
    plates = make_plates(16, 0, size=48, random_state=0).images / 255
    y, x = np.mgrid[:48, :48]
    cloths = []
    for _ in range(16):
        angle, period, phase = rng.uniform([0.4, 5, 0], [0.8, 7, 6])
        distance = x * np.cos(angle) + y * np.sin(angle)
        wave = 0.5 + 0.4 * np.sin(2 * np.pi * distance / period + phase)
        cloths.append(wave[..., None] * [0.9, 0.3, 0.2] + rng.normal(0, 0.03, (48, 48, 3)))
    return [plates, np.clip(cloths, 0, 1)]


@pytest.fixture(scope="module")
def two_products(products):
    plates, cloths = products
    detector = COFTDetector("embedded", max_iter=0, random_state=0)
    return detector.fit(np.concatenate([plates[:8], cloths[:8]]))


def test_each_product_is_judged_by_its_own_shots(two_products, products):
    joint = two_products._model.joint
    assert joint.cluster_labels.tolist() == [0] * 8 + [1] * 8
    one_scale = JointScore(joint.backbone_scores)  # as if all shots were of one kind
    for k, images in enumerate(products):
        own, labels = images[8:], np.full(8, k)
        summary = two_products._model.summarize(two_products._read(own))
        expected = joint.score_scales.apply(one_scale.score(summary), labels)
        assert_allclose(two_products.score_samples(own), expected)
    held_out = two_products.calibration_scores_
    assert_allclose(np.median(held_out[:8]), np.median(held_out[8:]))
    assert_allclose(lower_limit(held_out[8:]), two_products.offset_)


def test_defects_of_both_products_are_detected(two_products, products):
    for images in products:
        defects = images[8:].copy()
        defects[:, 4:12, 4:40] = [0.9, 0.9, 0.1]
        assert (two_products.predict(defects) == -1).all()
        assert (two_products.predict(images[8:]) == 1).mean() >= 0.75


def test_maps_follow(two_products, products):
    model = two_products._model
    maxima = model.joint.per_shot(model.joint.held_out_map_maxima())
    assert_allclose(np.median(maxima[:8]), np.median(maxima[8:]))
    assert_allclose(-lower_limit(-maxima[8:]), two_products.map_threshold_)
    images = np.concatenate([images[8:10] for images in products])
    _, bounds, _ = model.calibration_of(two_products._read(images))
    maps = two_products.anomaly_map(images)
    assert (maps.max(axis=(1, 2)) <= bounds + 1e-6).all()


def test_files_copies_and_thresholds_follow(two_products, products, tmp_path):
    import pickle

    images = np.concatenate([images[8:] for images in products])
    scores = two_products.score_samples(images)
    two_products.save(tmp_path / "model")
    for other in (
        COFTDetector.load(tmp_path / "model"),
        pickle.loads(pickle.dumps(two_products)),
    ):
        assert_array_equal(other.score_samples(images), scores)
        assert_array_equal(other.anomaly_map(images), two_products.anomaly_map(images))
        other.set_threshold(np.concatenate([images] * 2), max_fpr=0.2)
        assert_array_equal(other.predict_pvalue(images) <= 0.2, other.predict(images) == -1)


def test_onnx_files_follow(two_products, products, tmp_path):
    pytest.importorskip("onnxruntime")
    images = np.concatenate([images[8:12] for images in products])
    differences = two_products.to_onnx(tmp_path / "model.onnx", images)
    assert differences["score"] < 0.1 and differences["anomaly_map"] < 1e-3


def test_more_shots_can_bring_another_product(products):
    plates, cloths = products
    detector = COFTDetector("embedded", max_iter=0, random_state=0).fit(plates[:8])
    assert detector._model.joint.cluster_labels is None
    detector.partial_fit(cloths[:8])
    assert detector._model.joint.cluster_labels.tolist() == [0] * 8 + [1] * 8


def test_anomalies_of_a_pool_are_no_product(products):
    plates, cloths = products
    pool = np.concatenate([plates, cloths[:4]])
    detector = COFTDetector("embedded", max_iter=0, random_state=0, contamination=0.2)
    assert detector.fit_predict(pool).tolist() == [1] * 16 + [-1] * 4


def test_rows_of_a_table_are_one_cluster():
    rows = rows_around(0, 1, d=5)
    detector = COFTDetector(max_iter=0, random_state=0).fit(rows)
    assert detector._model.joint.cluster_labels is None
