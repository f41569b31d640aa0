"""TrainingDisplay."""

import pytest
from conftest import TinyNet
from numpy.testing import assert_array_equal

from skcoft import COFTDetector, COFTEmbedder
from skcoft.plotting import TrainingDisplay

plt = pytest.importorskip("matplotlib.pyplot")


def test_each_term_has_a_panel(photos):
    detector = COFTDetector(TinyNet(), max_iter=2, random_state=0).fit(photos[:5])
    display = TrainingDisplay.from_estimator(detector, name="training")
    titles = [axes.get_title() for axes in display.axes_]
    assert titles == ["contrastive", "positive pairs", "negative pairs", "loss"]
    for lines, term in zip(
        display.lines_, ["contrastive", "positive", "negative", "loss"], strict=True
    ):
        x, y = lines[0].get_data()
        assert_array_equal(x, [1, 2])
        assert_array_equal(y, detector.history_[term])
    assert display.figure_.get_suptitle() == "training"
    assert all(axes.get_legend() is None for axes in display.axes_)


def test_each_backbone_has_a_line_and_disabled_terms_have_no_panel(photos):
    fitted = COFTEmbedder(
        [TinyNet(), TinyNet(seed=1)], max_iter=2, negatives=None, random_state=0
    ).fit(photos[:5])
    display = TrainingDisplay.from_estimator(fitted)
    titles = [axes.get_title() for axes in display.axes_]
    assert titles == ["contrastive", "positive pairs", "loss"]
    for i, history in enumerate(fitted.history_):
        assert_array_equal(display.lines_[2, i].get_ydata(), history["loss"])
    (legend,) = [axes.get_legend() for axes in display.axes_ if axes.get_legend()]
    assert [text.get_text() for text in legend.get_texts()] == ["TinyNet (1)", "TinyNet (2)"]
    styles = {
        (line.get_color(), line.get_marker(), line.get_linestyle()) for line in display.lines_[0]
    }
    assert all(len(set(values)) == 2 for values in zip(*styles, strict=True))
    named = TrainingDisplay(histories=fitted.history_, labels=["a", "b"]).plot()
    assert [t.get_text() for t in named.axes_[-1].get_legend().get_texts()] == ["a", "b"]


def test_missing_histories_and_wrong_labels_are_rejected(photos):
    frozen = COFTDetector(TinyNet(), max_iter=0, random_state=0).fit(photos[:5])
    for draw, name in (
        (lambda: TrainingDisplay.from_estimator(frozen), "max_iter"),
        (TrainingDisplay(histories=[{}]).plot, "max_iter"),
        (TrainingDisplay(histories=[{"loss": [1.0]}], labels="ab").plot, "labels"),
    ):
        with pytest.raises(ValueError, match=name):
            draw()
    assert plt.get_fignums() == []
