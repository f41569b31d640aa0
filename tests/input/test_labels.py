import warnings
from functools import partial

import numpy as np
import pandas as pd
import pytest
from conftest import TinyNet
from numpy.testing import assert_array_equal

from skcoft import COFTDetector, COFTEmbedder
from skcoft._input.labels import check_labels, split_by_label, split_for_training
from skcoft._input.table import Table
from skcoft.model_selection import LabelFreeScorer, OneClassKFold

ROWS = Table(np.arange(8.0).reshape(4, 2))
SIGNS = [1, -1, 1, -1]


@pytest.mark.parametrize(
    "y",
    [SIGNS, np.array(SIGNS, float), np.array(SIGNS, object), pd.Series(SIGNS), np.int8(SIGNS)],
    ids=lambda y: type(y).__name__,
)
@pytest.mark.parametrize("allow_class_labels", [False, True])
def test_minus_one_is_anomalous(y, allow_class_labels):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_array_equal(check_labels(ROWS, y), SIGNS)
        normals, anomalies = split_by_label(ROWS, y, allow_class_labels)
    assert_array_equal(normals.values, ROWS.values[[0, 2]])
    assert_array_equal(anomalies.values, ROWS.values[[1, 3]])


NAN = float("nan")
FOREIGN = {  # never taken: labels, and what the message names
    "booleans": ([True, False, True, False], r"False, True\b.*np.where\(y, -1, 1\)"),
    "booleans as objects": (np.array([True, False] * 2, object), r"np.where\(y, -1, 1\)"),
    "text": (["good", "bad", "good", "bad"], r"'bad', 'good'.*np.where\(y == 'bad', 1, -1\)"),
    "numbers as text": (["1", "-1", "1", "1"], "'-1', '1'"),
    "not a number": ([1, -1, NAN, 1], r"\bnan\b"),
    "all not a number": ([NAN] * 4, r"\bnan\b"),
    "-1 and 0": ([1, -1, 0, 1], "-1, 0, 1"),
    "-1 and 2": ([-1, 2, -1, 2], "-1, 2"),
    "-1 and True": (np.array([True, -1, True, -1], object), "-1, True"),
}
ANYBODYS = {  # may be class labels of others
    "0 and 1": ([1, 0, 1, 0], r"\b0, 1\b.*np.where\(y == 1, -1"),
    "0": ([0] * 4, r"\b0\b"),
    "classes": ([0, 1, 2, 1], r"\b0, 1, 2\b.*np.where\(y == 0, 1, -1"),
    "fractions": ([0.5, 1, 1, 1], r"\b0.5, 1.0\b"),
}


@pytest.mark.parametrize("case", FOREIGN | ANYBODYS)
def test_other_labels_are_refused(case):
    y, message = (FOREIGN | ANYBODYS)[case]
    tolerant = partial(split_by_label, allow_class_labels=True)
    for parse in (check_labels, split_by_label, *[tolerant] * (case in FOREIGN)):
        with pytest.raises(ValueError, match=message):
            parse(ROWS, y)
    if case in ANYBODYS:
        with pytest.warns(UserWarning):
            assert tolerant(ROWS, y) == (ROWS, None)


def test_one_rule_wherever_labels_are_taken(photos):
    """What says 0 = normal, 1 = anomaly cannot invert anything."""
    y = np.repeat([0, 1], [8, 4])
    detector = COFTDetector(TinyNet(), max_iter=0, random_state=0)
    fitted = COFTDetector(TinyNet(), max_iter=0, random_state=0).fit(photos[:8])
    takers = [
        detector.fit,
        detector.partial_fit,
        detector.fit_predict,
        fitted.partial_fit,
        fitted.score,
        fitted.tune_threshold,
        lambda X, y: LabelFreeScorer()(fitted, X, y),
        lambda X, y: next(OneClassKFold(2).split(X, y)),
    ]
    before = fitted.score_samples(photos)
    for taker in takers:
        for labels in (y, y == 0, np.where(y, "bad", "good")):
            with pytest.raises(ValueError, match=r"^y\b"):
                taker(photos, labels)
    assert_array_equal(fitted.score_samples(photos), before)
    embedder, rows = COFTEmbedder(TinyNet(), max_iter=0), COFTDetector(max_iter=0)
    # an embedder is a step before a classifier; scikit-learn's checks pass class labels with rows
    for estimator, X in ((embedder, photos), (rows, np.eye(12))):
        with pytest.warns(UserWarning):
            estimator.fit(X, y)


def test_without_labels_and_of_one_label():
    assert split_by_label(ROWS, None) == (ROWS, None)
    normals, anomalies = split_by_label(ROWS, [1] * 4)
    assert len(normals) == 4 and anomalies is None
    for parse, y in (
        (split_by_label, [-1] * 4),
        (check_labels, [1, -1]),
        (split_by_label, [1, -1]),
    ):
        with pytest.raises(ValueError, match="samples"):
            parse(ROWS, y)


@pytest.mark.parametrize("negatives", ["labelled", ["cutpaste", "labelled"]], ids=str)
def test_anomalies_are_trained_against_only_where_asked_for(negatives):
    y = [1, 1, -1, -1]
    assert len(split_for_training(ROWS, y, negatives)[1]) == 2
    for other in ("cutpaste", ["crack"], None):
        normals, anomalies = split_for_training(ROWS, y, other)
        assert len(normals) == 2 and anomalies is None


def test_a_detector_fits_and_predicts_on_what_y_calls_normal(photos):
    """``fit_predict`` is ``fit``, then ``predict``, also of what can be read but once."""
    y = [1] * 6 + [-1] * 2
    params = dict(max_iter=0, random_state=0)
    expected = COFTDetector(TinyNet(), **params).fit(photos[:8], y)
    together = COFTDetector(TinyNet(), **params)
    assert_array_equal(together.fit_predict(photos[:8], y), expected.predict(photos[:8]))
    assert len(together.embeddings_) == 6
    assert_array_equal(together.fit_predict(iter(photos[:8]), y), expected.predict(photos[:8]))
