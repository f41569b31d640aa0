"""The displays: what they draw, of whatever X, and that they leave everything else alone."""

import pickle
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TinyNet
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from sklearn.cluster import KMeans
from sklearn.exceptions import NotFittedError
from sklearn.metrics import DetCurveDisplay, PrecisionRecallDisplay, RocCurveDisplay, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skcoft import COFTDetector, COFTEmbedder, plotting
from skcoft.plotting import AnomalyMapDisplay, NearestShotsDisplay, ScoreDisplay, TrainingDisplay

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.colors import same_color, to_hex  # noqa: E402

DISPLAYS = [AnomalyMapDisplay, NearestShotsDisplay, ScoreDisplay, TrainingDisplay]
OKABE_ITO = "#E69F00 #56B4E9 #009E73 #F0E442 #0072B2 #D55E00 #CC79A7 #000000 #767676".lower()


@pytest.fixture(autouse=True)
def clean():
    """Whatever a test draws, matplotlib's settings stay as they were."""
    before = dict(matplotlib.rcParams)
    yield
    assert dict(matplotlib.rcParams) == before


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (12, 24, 20, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def detector(images):
    return COFTDetector(TinyNet(), max_iter=2, random_state=0).fit(images[:5])


@pytest.fixture(scope="module")
def labels():
    return np.repeat([1, -1], [4, 3])


def data_of(axes):
    (drawn,) = axes.images
    return np.asarray(drawn.get_array())


def draw_all(detector, images, labels, **where):
    """Draw every display, return them by class; ``where`` is given to each by name."""
    place = {name: where.get(name, {}) for name in ("maps", "shots", "scores", "training")}
    X = images[5:]
    return [
        AnomalyMapDisplay.from_estimator(detector, X, **place["maps"]),
        NearestShotsDisplay.from_estimator(detector, X, images[:5], **place["shots"]),
        ScoreDisplay.from_estimator(detector, X, labels, **place["scores"]),
        TrainingDisplay.from_estimator(detector, **place["training"]),
    ]


# maps


def test_maps_are_drawn_below_their_images_on_one_scale(detector, images):
    captions = [f"number {i}" for i in range(7)]
    display = AnomalyMapDisplay.from_estimator(detector, images[5:], captions=captions, name="all")
    maps = detector.anomaly_map(images[5:])
    assert display.axes_.shape == (7, 2)
    for (above, below), image, drawn, text in zip(
        display.axes_, images[5:], maps, captions, strict=True
    ):
        assert_array_equal(data_of(above), image)
        assert_array_equal(data_of(below), drawn)
        assert below.images[0].get_clim() == (0, max(6, maps.max()))
        assert above.get_title() == text and below.get_title() == ""
        assert not len(above.get_xticks()) and not len(below.get_yticks())
    assert [axes.images[0] for axes in display.axes_[:, 1]] == display.map_images_
    assert display.colorbar_.mappable is display.map_images_[0]
    assert display.colorbar_.ax.get_ylabel() == "anomaly map"
    assert display.contours_ == [None] * 7
    assert display.figure_.get_suptitle() == "all"
    assert display.figure_ is plt.gcf()


def test_maps_of_more_anomalous_images_widen_the_scale_and_its_ends_are_marked():
    image = np.zeros((1, 5, 5))
    drawn = np.linspace(0, 9, 25).reshape(1, 5, 5)
    display = AnomalyMapDisplay.from_predictions(image, drawn)
    assert display.map_images_[0].get_clim() == (0, 9) and display.colorbar_.extend == "neither"
    display.plot(vmin=-1, vmax=5)
    assert display.map_images_[0].get_clim() == (-1, 5) and display.colorbar_.extend == "max"
    assert display.plot(vmin=1, vmax=5).colorbar_.extend == "both"
    assert display.plot(vmin=1).colorbar_.extend == "min"
    calm = AnomalyMapDisplay.from_predictions(image, drawn / 9)
    assert calm.map_images_[0].get_clim() == (0, 6)


def test_a_line_is_drawn_around_what_is_above_the_threshold():
    maps = np.zeros((2, 8, 8))
    maps[0, 2:5, 3:7] = 4
    display = AnomalyMapDisplay.from_predictions(np.zeros((2, 8, 8)), maps, threshold=2)
    assert display.contours_[1] is None
    for axes, contour in zip(display.axes_[0], display.contours_[0], strict=True):
        assert contour.axes is axes and contour.levels.tolist() == [2]
        (path,) = contour.get_paths()
        # halfway between the pixels of 0 and of 4
        assert_allclose(path.vertices.min(axis=0), [2.5, 1.5])
        assert_allclose(path.vertices.max(axis=0), [6.5, 4.5])
    marks = [line.get_ydata()[0] for line in display.colorbar_.ax.lines]
    assert marks == [2]
    assert AnomalyMapDisplay.from_predictions(maps / 4, maps, threshold=9).contours_ == [None] * 2


def test_images_side_by_side_then_below_as_many_in_each_band():
    display = AnomalyMapDisplay.from_predictions(np.zeros((7, 5, 5)), np.zeros((7, 5, 5)))
    places = [axes.get_subplotspec() for axes in display.axes_[:, 0]]
    assert [(p.rowspan.start, p.colspan.start) for p in places] == [
        (0, 0), (0, 1), (0, 2), (0, 3), (2, 0), (2, 1), (2, 2)
    ]  # fmt: skip
    below = [axes.get_subplotspec() for axes in display.axes_[:, 1]]
    assert [p.rowspan.start for p in below] == [1] * 4 + [3] * 3
    assert len(display.figure_.axes) == 14 + 1  # nothing empty, and the scale
    labels = [[axes.get_ylabel() for axes in pair] for pair in display.axes_]
    assert [i for i, texts in enumerate(labels) if texts == ["image", "map"]] == [0, 4]
    assert [i for i, texts in enumerate(labels) if texts == ["", ""]] == [1, 2, 3, 5, 6]
    assert (
        AnomalyMapDisplay(images=display.images, maps=display.maps)
        .plot(n_cols=1)
        .axes_[6, 1]
        .get_subplotspec()
        .rowspan.start
        == 13
    )


@pytest.mark.parametrize("kind", ["paths", "pil", "generator", "floats", "tensor", "gray", "rows"])
def test_images_are_drawn_as_the_detector_reads_them(kind, images, tmp_path):
    wanted = images
    if kind == "paths":
        X = [tmp_path / f"{i}.png" for i in range(12)]
        for path, image in zip(X, images, strict=True):
            Image.fromarray(image).save(path)
    elif kind == "pil":
        X = [Image.fromarray(image) for image in images]
    elif kind == "tensor":
        X = torch.from_numpy(images).permute(0, 3, 1, 2)
    elif kind == "rows":
        X = images.reshape(12, -1)
    elif kind == "floats":
        X = images / 255
    elif kind == "gray":
        X = images[..., 0]
        wanted = np.repeat(X[..., None], 3, axis=-1)
    else:
        X = images
    shape = (24, 20, 3) if kind == "rows" else None
    detector = COFTDetector(TinyNet(), max_iter=0, image_shape=shape, random_state=0).fit(X[:5])
    once = iter(X[5:]) if kind == "generator" else X[5:]
    display = AnomalyMapDisplay.from_estimator(detector, once)
    assert_array_equal([data_of(axes) for axes in display.axes_[:, 0]], wanted[5:])
    assert_array_equal(
        [data_of(axes) for axes in display.axes_[:, 1]], detector.anomaly_map(X[5:])
    )


def test_images_of_other_sizes_and_more_bits(images):
    several = [images[0], images[1, :16]]
    maps = [np.ones((24, 20)), np.zeros((16, 20))]
    display = AnomalyMapDisplay.from_predictions(several, maps)
    assert [data_of(axes).shape for axes in display.axes_[:, 0]] == [(24, 20, 3), (16, 20, 3)]
    deep = images[..., 0].astype(np.uint16) * 16  # of 12 bits
    display = AnomalyMapDisplay.from_predictions(deep[:1], [maps[0]], bit_depth=12)
    assert_allclose(data_of(display.axes_[0, 0])[..., 0], deep[0] / 4095 * 255, atol=0.51)
    fitted = COFTDetector(TinyNet(), max_iter=0, bit_depth=13, random_state=0).fit(deep[:5])
    display = AnomalyMapDisplay.from_estimator(fitted, deep[5:6])
    assert_allclose(data_of(display.axes_[0, 0])[..., 0], deep[5] / 8191 * 255, atol=0.51)


# scores


def test_scores_stand_in_rows_with_threshold_and_pvalues(detector, images, labels):
    display = ScoreDisplay.from_estimator(detector, images[5:], labels, name="seven")
    scores = detector.score_samples(images[5:])
    rows = {
        "calibration": detector.calibration_scores_,
        "normal": scores[labels == 1],
        "anomalous": scores[labels == -1],
    }
    assert list(display.points_) == list(rows)
    for place, (kind, wanted) in zip((2, 1, 0), rows.items(), strict=True):
        x, y = display.points_[kind].get_data()
        assert_array_equal(x, np.sort(wanted))
        assert np.all(np.abs(y - place) <= 0.3) and len(np.unique(y)) == len(y)
    assert_array_equal(display.offset_line_.get_xdata(), [detector.offset_] * 2)
    (mark,) = display.ax_.texts
    assert mark.get_text() == "threshold" and mark.xy == (detector.offset_, 1)
    assert display.ax_.get_title() == "seven" and display.figure_ is display.ax_.figure
    flagged = detector.predict(images[5:]) == -1
    assert [text.get_text() for text in display.ax_.get_yticklabels()] == [
        "calibration\n5 in all",
        f"normal\n{flagged[:4].sum()} of 4 flagged",
        f"anomalous\n{flagged[4:].sum()} of 3 flagged",
    ]
    assert display.ax_.get_yticks().tolist() == [2, 1, 0]


def test_the_line_of_pvalues_is_that_of_predict_pvalue(detector, images):
    display = ScoreDisplay.from_estimator(detector, images)
    x, p = display.pvalue_line_.get_data()
    assert display.pvalue_line_.get_drawstyle() == "steps-post"
    drawn = p[np.searchsorted(x, detector.score_samples(images), side="right") - 1]
    assert_array_equal(drawn, detector.predict_pvalue(images))
    low, high = display.ax_.get_xlim()
    assert x[0] < low and x[-1] > high and p[0] == 1 / 6 and p[-1] == 1
    everything = np.r_[display.scores, detector.calibration_scores_, detector.offset_]
    assert low < everything.min() and high > everything.max()
    assert "p-value" in display.pvalue_ax_.get_ylabel()
    assert display.pvalue_ax_.get_zorder() < display.ax_.get_zorder()
    without = ScoreDisplay.from_estimator(detector, images, pvalues=False)
    assert without.pvalue_line_ is None and without.pvalue_ax_ is None
    assert "calibration" in without.points_


def test_scores_alone():
    display = ScoreDisplay.from_predictions([3, np.nan, 1.0, -np.inf])
    assert list(display.points_) == ["images"]
    assert display.offset_line_ is display.pvalue_line_ is None and not display.ax_.texts
    (label,) = display.ax_.get_yticklabels()
    assert label.get_text() == "images\n4 in all\n2 not finite"
    display = ScoreDisplay.from_predictions([3, np.nan, 1.0, 1.0], [1] * 4, offset=1)
    assert list(display.points_) == ["normal"]
    (label,) = display.ax_.get_yticklabels()  # a score that is NaN is not normal, as of predict
    assert label.get_text() == "normal\n1 of 4 flagged\n1 not finite"


def twice(X):
    return 2 * X


def test_scores_of_rows_and_of_a_pipeline():
    X = np.random.default_rng(0).normal(size=(20, 3))
    fitted = COFTDetector(max_iter=0, random_state=0).fit(X[:8] * 2)
    pipeline = make_pipeline(FunctionTransformer(twice), fitted)
    display = ScoreDisplay.from_estimator(pipeline, X[8:])
    assert_array_equal(
        display.points_["images"].get_xdata(), np.sort(fitted.score_samples(X[8:] * 2))
    )
    assert_array_equal(display.offset_line_.get_xdata()[0], fitted.offset_)


# nearest shots


def test_shots_are_drawn_below_the_images_that_they_are_nearest_to(detector, images):
    display = NearestShotsDisplay.from_estimator(
        detector, images[5:8], images[:5], captions=["a", "b", "c"], name="near"
    )
    distances, indices = detector.kneighbors(images[5:8], 3)
    assert_array_equal(display.indices, indices)
    assert display.axes_.shape == (3, 4)
    for (above, *below), image, row, nearest in zip(
        display.axes_, images[5:8], distances, indices, strict=True
    ):
        assert_array_equal(data_of(above), image)
        for axes, distance, index in zip(below, row, nearest, strict=True):
            assert_array_equal(data_of(axes), images[index])
            number, shown = axes.get_title().removeprefix("shot ").split(": ")
            assert int(number) == index and float(shown) == pytest.approx(distance, rel=5e-3)
    assert [above.get_title() for above in display.axes_[:, 0]] == ["a", "b", "c"]
    rows = [axes.get_ylabel() for axes in display.axes_[0]]
    assert rows == ["image", "nearest\nshot", "next", "next"]
    assert display.figure_.get_suptitle() == "near"


def test_neighbours_that_are_known(images):
    display = NearestShotsDisplay.from_predictions(
        images[:2], images[2:5], [[0.5], [1]], [[2], [0]]
    )
    assert_array_equal(data_of(display.axes_[0, 1]), images[4])
    assert_array_equal(data_of(display.axes_[1, 1]), images[2])
    assert [axes.get_title() for axes in display.axes_[:, 1]] == ["shot 2: 0.500", "shot 0: 1.00"]


def test_only_the_shots_of_the_fit_explain_it(detector, images):
    more = COFTDetector(TinyNet(), max_iter=0, random_state=0).fit(images[:4])
    more.partial_fit(images[4:5])
    NearestShotsDisplay.from_estimator(more, images[5:6], images[:5])
    with pytest.raises(ValueError, match=r"the 5 images of fit .* got 4"):
        NearestShotsDisplay.from_estimator(detector, images[5:6], images[:4])
    with pytest.raises(ValueError, match=r"order; 2 of 5 are other .*shots\[1\] first"):
        NearestShotsDisplay.from_estimator(detector, images[5:6], images[[0, 2, 1, 3, 4]])


# training


def test_each_term_has_a_panel(detector):
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


def test_a_line_for_each_backbone_and_none_for_what_is_off(images):
    fitted = COFTEmbedder(
        [TinyNet(), TinyNet(seed=1)], max_iter=2, negatives=None, random_state=0
    ).fit(images[:5])
    display = TrainingDisplay.from_estimator(fitted)
    assert [axes.get_title() for axes in display.axes_] == [
        "contrastive",
        "positive pairs",
        "loss",
    ]
    for i, history in enumerate(fitted.history_):
        assert_array_equal(display.lines_[2, i].get_ydata(), history["loss"])
    (legend,) = [axes.get_legend() for axes in display.axes_ if axes.get_legend()]
    assert [text.get_text() for text in legend.get_texts()] == ["TinyNet (1)", "TinyNet (2)"]
    looks = {
        (line.get_color(), line.get_marker(), line.get_linestyle()) for line in display.lines_[0]
    }
    assert all(len(set(values)) == 2 for values in zip(*looks, strict=True))
    named = TrainingDisplay(histories=fitted.history_, labels=["a", "b"]).plot()
    assert [t.get_text() for t in named.axes_[-1].get_legend().get_texts()] == ["a", "b"]


# all of them


def test_colours_are_told_apart_by_every_eye(detector, images, labels):
    display = ScoreDisplay.from_estimator(detector, images[5:], labels)
    looks = [(points.get_color(), points.get_marker()) for points in display.points_.values()]
    assert len(set(looks)) == len({marker for _, marker in looks}) == 3
    assert all(to_hex(color) in OKABE_ITO for color, _ in looks)
    assert same_color(display.pvalue_line_.get_color(), display.pvalue_ax_.yaxis.label.get_color())
    map_image = AnomalyMapDisplay.from_estimator(detector, images[5:]).map_images_[0]
    light = map_image.get_cmap()(np.linspace(0, 1, 64))[:, :3] @ [0.299, 0.587, 0.114]
    assert np.all(np.diff(light) > 0)  # also printed in grey


def test_they_draw_in_the_place_of_given_axes(detector, images, labels):
    figure, axes = plt.subplots(2, 2, layout="constrained")
    names = ("maps", "shots", "scores", "training")
    places = {name: {"ax": place} for name, place in zip(names, axes.flat, strict=True)}
    displays = draw_all(detector, images, labels, **places)
    assert plt.get_fignums() == [figure.number]
    figure.draw_without_rendering()
    for i, display in enumerate(displays):
        drawn = display.axes_.ravel() if hasattr(display, "axes_") else [display.ax_]
        for ax in drawn:
            left, top = figure.transFigure.inverted().transform(ax.bbox.get_points().mean(axis=0))
            assert (top < 0.5, left > 0.5) == divmod(i, 2)
        assert display.figure_.figure is figure
    assert displays[2].ax_ is axes[1, 0] and not axes[0, 0].axison


def test_they_draw_in_a_given_figure(detector, images, labels):
    whole = matplotlib.figure.Figure()  # without pyplot
    parts = whole.subfigures(3, 1)
    names = ("maps", "shots", "training")
    places = {name: {"figure": part} for name, part in zip(names, parts, strict=True)}
    places["scores"] = {"ax": matplotlib.figure.Figure().subplots()}
    maps, shots, _, training = draw_all(detector, images, labels, **places)
    assert [maps.figure_, shots.figure_, training.figure_] == list(parts)
    assert plt.get_fignums() == []


def test_pickles_with_what_was_drawn_and_leaves_inputs_alone(detector, images, labels):
    before = images.copy(), labels.copy()
    displays = draw_all(detector, images, labels)
    assert_array_equal(images, before[0])
    assert_array_equal(labels, before[1])
    for display in displays:
        stored = pickle.dumps(display)
        plt.close("all")
        loaded = pickle.loads(stored)
        assert loaded.figure_ is not display.figure_
        assert len(loaded.figure_.axes) == len(display.figure_.axes)
        loaded.figure_.draw_without_rendering()
        plt.close("all")
        assert len(loaded.plot().figure_.axes) == len(display.figure_.axes)
        plt.close("all")


def test_matplotlib_is_imported_on_use(monkeypatch, detector, images):
    for path in Path(plotting.__file__).parent.glob("*.py"):
        assert not re.search(r"^(import|from) matplotlib", path.read_text(), re.M), path
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    for draw in (
        lambda: AnomalyMapDisplay.from_estimator(detector, "unread"),
        lambda: NearestShotsDisplay.from_predictions("unread", "unread", 0, 0),
        lambda: ScoreDisplay.from_predictions([1.0]),
        lambda: TrainingDisplay(histories=[{"loss": [1.0]}]).plot(),
    ):
        with pytest.raises(ImportError, match=r'pip install "skcoft\[plot\]"'):
            draw()


Z = np.zeros((2, 5, 5))
MAPS, SHOTS = AnomalyMapDisplay.from_predictions, NearestShotsDisplay.from_predictions
SCORES, TRAINING = ScoreDisplay.from_predictions, TrainingDisplay
WRONG = {
    "maps must hold one map for each of the 2 images; got 1": lambda: MAPS(Z, Z[:1]),
    r"maps\[0\] must have the size of its image, \(5, 5\)": lambda: MAPS(Z, Z[:, :3]),
    r"maps\[1\] holds nothing but NaN": lambda: MAPS(Z, [Z[0], Z[0] + np.nan]),
    "captions must hold one text for each of the 2": lambda: MAPS(Z, Z, captions=["a"]),
    "2 images; got 'ab'": lambda: SHOTS(Z, Z, [[0]] * 2, [[0]] * 2, captions="ab"),
    "vmin must be a number below vmax; got 3 and 2": lambda: MAPS(Z, Z, vmin=3, vmax=2),
    "threshold must be a finite number or None; got nan": lambda: MAPS(Z, Z, threshold=np.nan),
    "n_cols must be an integer >= 1; got 0": lambda: MAPS(Z, Z, n_cols=0),
    "Cannot read images as X: images are needed to draw, X has 2 rows": lambda: MAPS(Z[0, :2], Z),
    "Cannot read shots as X: X holds float values": lambda: SHOTS(Z, Z + 2, [[0]], [[0]]),
    r"shape \(2, n_neighbors\).*got \(2, 1\) and \(1, 1\)": lambda: SHOTS(Z, Z, [[0]] * 2, [[0]]),
    "indices must be those of shots, 0 to 1": lambda: SHOTS(Z, Z, [[0]] * 2, [[0], [2]]),
    "inconsistent numbers of samples": lambda: SCORES([1.0, 2], [1]),
    "got the labels 0, 1": lambda: SCORES([1.0, 2], [0, 1]),
    r"scores must have shape \(n,\); got \(1, 2\)": lambda: SCORES([[1.0, 2]]),
    "calibration_scores contains NaN": lambda: SCORES([1.0], calibration_scores=[np.nan]),
    "offset must be a finite number or None; got nan": lambda: SCORES([1.0], offset=np.nan),
    "nothing was fine-tuned": lambda: TRAINING(histories=[{}]).plot(),
    "one text for each of the 1": lambda: TRAINING(
        histories=[{"loss": [1.0]}], labels="ab"
    ).plot(),
}


@pytest.mark.parametrize("message", WRONG)
def test_what_does_not_fit_is_an_error_before_anything_is_drawn(message):
    with pytest.raises(ValueError, match=message):
        WRONG[message]()
    assert plt.get_fignums() == []


@pytest.mark.parametrize("display", DISPLAYS)
def test_estimators_that_cannot_be_drawn(display, images):
    rest = {TrainingDisplay: [], NearestShotsDisplay: [images, images]}.get(display, [images])
    for unfitted in (COFTDetector(), make_pipeline(COFTDetector())):
        with pytest.raises(NotFittedError):
            display.from_estimator(unfitted, *rest)
    with pytest.raises(TypeError, match="must be a COFTDetector.* got KMeans"):
        display.from_estimator(KMeans(), *rest)


def test_detectors_that_cannot_be_drawn(images):
    whole = COFTDetector(TinyNet(), local=False, max_iter=0, random_state=0).fit(images[:5])
    with pytest.raises(ValueError, match="anomaly_map needs images, local other than False"):
        AnomalyMapDisplay.from_estimator(whole, images[5:])
    with pytest.raises(ValueError, match="nothing was fine-tuned"):
        TrainingDisplay.from_estimator(whole)
    rows = np.random.default_rng(0).normal(size=(8, 3))
    fitted = COFTDetector(max_iter=0, random_state=0).fit(rows)
    with pytest.raises(ValueError, match="anomaly_map needs images"):
        AnomalyMapDisplay.from_estimator(fitted, rows)
    with pytest.raises(ValueError, match="images are needed to draw, X has 2 rows"):
        NearestShotsDisplay.from_estimator(fitted, rows[:2], rows)
    assert plt.get_fignums() == []


def test_axes_that_have_no_place(detector):
    figure = plt.figure()
    with pytest.raises(ValueError, match="Pass ax or figure, not both"):
        TrainingDisplay.from_estimator(detector, ax=figure.subplots(), figure=figure)
    with pytest.raises(ValueError, match="ax must have a place in a grid"):
        TrainingDisplay.from_estimator(detector, ax=figure.add_axes([0, 0, 1, 1]))


def test_the_recipe_for_the_displays_of_scikit_learn(detector, images, labels):
    """As the user guide has it: anomalies are what is sought, so higher means more anomalous."""
    scores = -detector.decision_function(images[5:])
    roc = RocCurveDisplay.from_predictions(labels, scores, pos_label=-1)
    assert roc.roc_auc == pytest.approx(detector.score(images[5:], labels))
    assert roc.roc_auc == pytest.approx(roc_auc_score(labels == -1, scores))
    precision = PrecisionRecallDisplay.from_predictions(labels, scores, pos_label=-1)
    assert precision.prevalence_pos_label == pytest.approx(3 / 7)
    curve = DetCurveDisplay.from_predictions(labels, scores, pos_label=-1)
    flagged = detector.predict(images[5:]) == -1
    point = [flagged[labels == 1].mean(), 1 - flagged[labels == -1].mean()]
    roc_points = np.stack([roc.fpr, 1 - roc.tpr], axis=1)
    assert len(curve.fpr) and np.abs(roc_points - point).sum(axis=1).min() < 0.5
