"""Where displays draw: grids of panels, in place of axes or in a figure."""

import numpy as np
import pytest

from skcoft.plotting import AnomalyMapDisplay, NearestShotsDisplay, ScoreDisplay, TrainingDisplay

plt = pytest.importorskip("matplotlib.pyplot")
Figure = pytest.importorskip("matplotlib.figure").Figure

IMAGES = np.zeros((7, 5, 5))
GRIDS = [
    AnomalyMapDisplay(images=[np.zeros((5, 5, 3))] * 2, maps=IMAGES[:2]),
    NearestShotsDisplay(
        images=[np.zeros((5, 5, 3))] * 2,
        shots=[np.zeros((5, 5, 3))],
        distances=np.zeros((2, 1)),
        indices=np.zeros((2, 1), dtype=int),
    ),
    TrainingDisplay(histories=[{"loss": [2.0, 1.0]}]),
]


def test_images_are_spread_evenly_over_bands():
    display = AnomalyMapDisplay.from_predictions(IMAGES, IMAGES)
    places = [axes.get_subplotspec() for axes in display.axes_[:, 0]]
    assert [(p.rowspan.start, p.colspan.start) for p in places] == [
        (0, 0), (0, 1), (0, 2), (0, 3), (2, 0), (2, 1), (2, 2)
    ]  # fmt: skip
    below = [axes.get_subplotspec() for axes in display.axes_[:, 1]]
    assert [p.rowspan.start for p in below] == [1] * 4 + [3] * 3
    assert len(display.figure_.axes) == 14 + 1  # no empty axes, and the colour scale
    labels = [[axes.get_ylabel() for axes in pair] for pair in display.axes_]
    assert [i for i, texts in enumerate(labels) if texts == ["image", "map"]] == [0, 4]
    assert [i for i, texts in enumerate(labels) if texts == ["", ""]] == [1, 2, 3, 5, 6]
    last = display.plot(n_cols=1).axes_[6, 1]
    assert last.get_subplotspec().rowspan.start == 13


def test_displays_draw_in_place_of_axes():
    figure, axes = plt.subplots(2, 2, layout="constrained")
    scores = ScoreDisplay(scores=[1.0, 2.0])
    displays = [*GRIDS, scores]
    for display, ax in zip(displays, axes.flat, strict=True):
        display.plot(ax)
    assert plt.get_fignums() == [figure.number]
    figure.draw_without_rendering()
    for i, display in enumerate(displays):
        panels = [display.ax_] if display is scores else display.axes_.ravel()
        for panel in panels:
            center = panel.bbox.get_points().mean(axis=0)
            left, top = figure.transFigure.inverted().transform(center)
            assert (top < 0.5, left > 0.5) == divmod(i, 2)
        assert display.figure_.figure is figure
    assert scores.ax_ is axes[1, 1] and not axes[0, 0].axison


@pytest.mark.parametrize("display", GRIDS, ids=lambda display: type(display).__name__)
def test_displays_draw_in_a_figure_without_pyplot(display):
    figure = Figure()
    part = figure.subfigures(2, 1)[1]
    assert display.plot(figure=part).figure_ is part
    assert plt.get_fignums() == []


def test_scores_are_drawn_in_axes_without_pyplot():
    ax = Figure().subplots()
    assert ScoreDisplay(scores=[1.0, 2.0]).plot(ax).ax_ is ax
    assert plt.get_fignums() == []


def test_ax_and_figure_exclude_each_other_and_ax_must_be_in_a_grid():
    figure = plt.figure()
    for ax, options, name in (
        (figure.subplots(), {"figure": figure}, "ax and figure"),
        (figure.add_axes([0, 0, 1, 1]), {}, "^ax "),
    ):
        with pytest.raises(ValueError, match=name):
            GRIDS[-1].plot(ax, **options)
