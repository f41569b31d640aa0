"""ScoreDisplay, and the displays of scikit-learn that the user guide recommends."""

import numpy as np
import pytest
from conftest import TinyNet
from numpy.testing import assert_array_equal
from sklearn.metrics import DetCurveDisplay, PrecisionRecallDisplay, RocCurveDisplay, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skcoft import COFTDetector
from skcoft.plotting import ScoreDisplay

plt = pytest.importorskip("matplotlib.pyplot")

LABELS = np.repeat([1, -1], [4, 3])


@pytest.fixture(scope="module")
def detector(photos):
    return COFTDetector(TinyNet(), max_iter=2, random_state=0).fit(photos[:5])


def test_scores_are_in_rows_with_threshold_and_pvalues(detector, photos):
    display = ScoreDisplay.from_estimator(detector, photos[5:], LABELS, name="seven")
    scores = detector.score_samples(photos[5:])
    rows = {
        "calibration": detector.calibration_scores_,
        "normal": scores[LABELS == 1],
        "anomalous": scores[LABELS == -1],
    }
    assert list(display.points_) == list(rows)
    for height, (row, expected) in zip((2, 1, 0), rows.items(), strict=True):
        x, y = display.points_[row].get_data()
        assert_array_equal(x, np.sort(expected))
        assert np.all(np.abs(y - height) <= 0.3) and len(np.unique(y)) == len(y)
    assert_array_equal(display.offset_line_.get_xdata(), [detector.offset_] * 2)
    (mark,) = display.ax_.texts
    assert mark.get_text() == "threshold" and mark.xy == (detector.offset_, 1)
    assert display.ax_.get_title() == "seven" and display.figure_ is display.ax_.figure
    flagged = detector.predict(photos[5:]) == -1
    assert [text.get_text() for text in display.ax_.get_yticklabels()] == [
        "calibration\n5 in total",
        f"normal\n{flagged[:4].sum()} of 4 flagged",
        f"anomalous\n{flagged[4:].sum()} of 3 flagged",
    ]
    assert display.ax_.get_yticks().tolist() == [2, 1, 0]


def test_pvalue_line_agrees_with_predict_pvalue(detector, photos):
    display = ScoreDisplay.from_estimator(detector, photos)
    x, p = display.pvalue_line_.get_data()
    assert display.pvalue_line_.get_drawstyle() == "steps-post"
    on_line = p[np.searchsorted(x, detector.score_samples(photos), side="right") - 1]
    assert_array_equal(on_line, detector.predict_pvalue(photos))
    low, high = display.ax_.get_xlim()
    assert x[0] < low and x[-1] > high and p[0] == 1 / 6 and p[-1] == 1
    values = np.r_[display.scores, detector.calibration_scores_, detector.offset_]
    assert low < values.min() and high > values.max()
    assert "p-value" in display.pvalue_ax_.get_ylabel()
    assert display.pvalue_ax_.get_zorder() < display.ax_.get_zorder()
    without = ScoreDisplay.from_estimator(detector, photos, pvalues=False)
    assert without.pvalue_line_ is None and without.pvalue_ax_ is None
    assert "calibration" in without.points_


def test_scores_without_labels_threshold_and_calibration_scores():
    display = ScoreDisplay.from_predictions([3, np.nan, 1.0, -np.inf])
    assert list(display.points_) == ["images"]
    assert display.offset_line_ is display.pvalue_line_ is None and not display.ax_.texts
    (label,) = display.ax_.get_yticklabels()
    assert label.get_text() == "images\n4 in total\n2 not finite"


def test_nan_is_flagged_as_by_predict():
    display = ScoreDisplay.from_predictions([3, np.nan, 1.0, 1.0], [1] * 4, offset=1)
    assert list(display.points_) == ["normal"]
    (label,) = display.ax_.get_yticklabels()
    assert label.get_text() == "normal\n1 of 4 flagged\n1 not finite"


def double(X):
    return 2 * X


def test_tabular_data_in_a_pipeline():
    X = np.random.default_rng(0).normal(size=(20, 3))
    fitted = COFTDetector(max_iter=0, random_state=0).fit(X[:8] * 2)
    pipeline = make_pipeline(FunctionTransformer(double), fitted)
    display = ScoreDisplay.from_estimator(pipeline, X[8:])
    scores = np.sort(fitted.score_samples(X[8:] * 2))
    assert_array_equal(display.points_["images"].get_xdata(), scores)
    assert_array_equal(display.offset_line_.get_xdata()[0], fitted.offset_)


@pytest.mark.parametrize(
    "arguments, options, match",
    [
        (([1.0, 2], [1]), {}, "inconsistent numbers of samples"),
        (([1.0, 2], [0, 1]), {}, "^y "),
        (([[1.0, 2]],), {}, "^scores"),
        (([1.0],), {"calibration_scores": [np.nan]}, "calibration_scores"),
        (([1.0],), {"offset": np.nan}, "offset"),
    ],
)
def test_invalid_arguments_are_rejected_before_a_figure_is_created(arguments, options, match):
    with pytest.raises(ValueError, match=match):
        ScoreDisplay.from_predictions(*arguments, **options)
    assert plt.get_fignums() == []


def test_displays_of_scikit_learn_with_anomalies_as_positive_class(detector, photos):
    """As in the user guide: with pos_label=-1, higher scores must mean more anomalous."""
    scores = -detector.decision_function(photos[5:])
    roc = RocCurveDisplay.from_predictions(LABELS, scores, pos_label=-1)
    assert roc.roc_auc == pytest.approx(detector.score(photos[5:], LABELS))
    assert roc.roc_auc == pytest.approx(roc_auc_score(LABELS == -1, scores))
    precision = PrecisionRecallDisplay.from_predictions(LABELS, scores, pos_label=-1)
    assert precision.prevalence_pos_label == pytest.approx(3 / 7)
    curve = DetCurveDisplay.from_predictions(LABELS, scores, pos_label=-1)
    flagged = detector.predict(photos[5:]) == -1
    point = [flagged[LABELS == 1].mean(), 1 - flagged[LABELS == -1].mean()]
    roc_points = np.stack([roc.fpr, 1 - roc.tpr], axis=1)
    assert len(curve.fpr) and np.abs(roc_points - point).sum(axis=1).min() < 0.5
