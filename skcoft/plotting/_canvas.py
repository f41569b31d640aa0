"""What the displays share for drawing: matplotlib, imported on use, colours and image grids."""

from collections.abc import Sequence
from numbers import Integral
from types import ModuleType
from typing import TYPE_CHECKING, Literal

import numpy as np

from .._utils.params import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

# the colour-blind safe palette of Okabe and Ito, with a gray
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILLION, PURPLE, GRAY = "#0072B2", "#D55E00", "#CC79A7", "#767676"
PANEL_INCHES = 1.55


def import_pyplot(display: type) -> ModuleType:
    """Return matplotlib.pyplot, or raise an ImportError that says what to install."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            f'{display.__name__} needs matplotlib. Run pip install "skcoft[plot]".'
        ) from error
    return plt


def open_canvas(
    display: type,
    size: tuple[float, float],
    ax: "Axes | None",
    figure: "Figure | SubFigure | None",
    layout: Literal["compressed", "constrained"] = "constrained",
) -> "Figure | SubFigure":
    """Return the figure to draw a grid in: a new one, ``figure``, or a subfigure in place of ax.

    Axes have a single coordinate system, so a grid needs a subfigure.
    """
    plt = import_pyplot(display)
    if ax is None and figure is None:
        return plt.figure(figsize=size, layout=layout)
    if ax is None:
        assert figure is not None
        return figure
    if figure is not None:
        raise ValueError("Both ax and figure were passed. Pass only one of them.")
    place = ax.get_subplotspec()
    if place is None:
        raise ValueError(
            "ax is not part of a grid of subplots. Pass axes of plt.subplots, or pass figure."
        )
    ax.set_axis_off()
    return ax.figure.add_subfigure(place)


def grid_size(
    images: Sequence[np.ndarray], n_rows: int, n_cols: int
) -> tuple[int, int, tuple[float, float]]:
    """Return the number of bands, the number of columns, and the size in inches of a figure.

    A band holds ``n_rows`` rows of panels: the images and what belongs to them.
    """
    if not number(Integral, 1).test(n_cols):
        raise ValueError(f"n_cols must be an integer >= 1; got {n_cols!r}.")
    n_bands = -(-len(images) // n_cols)
    n_columns = -(-len(images) // n_bands)  # spreads the images evenly over the bands
    aspect = np.median([image.shape[0] / image.shape[1] for image in images])
    height = n_bands * (0.3 + n_rows * PANEL_INCHES * np.clip(aspect, 0.3, 3))
    return n_bands, n_columns, (n_columns * PANEL_INCHES + 1, height + 0.3)


def make_grid(
    figure: "Figure | SubFigure", n_images: int, n_rows: int, n_bands: int, n_columns: int
) -> np.ndarray:
    """Return axes without ticks, of shape (n_images, n_rows), a column for each image."""
    grid = figure.subplots(n_bands * n_rows, n_columns, squeeze=False)
    by_image = grid.reshape(n_bands, n_rows, n_columns).swapaxes(1, 2).reshape(-1, n_rows)
    for axes in by_image[n_images:].ravel():
        axes.remove()
    for axes in by_image[:n_images].ravel():
        axes.set(xticks=[], yticks=[])
    return by_image[:n_images]


def layout_for(images: Sequence[np.ndarray]) -> Literal["compressed", "constrained"]:
    """Return the layout of a grid; images of one shape can be placed close to each other."""
    return "compressed" if len({image.shape for image in images}) == 1 else "constrained"


def label_rows(axes: np.ndarray, labels: Sequence[str], n_columns: int) -> None:
    """Write a label to the left of each row of each band."""
    for first in axes[::n_columns]:
        for panel, label in zip(first, labels, strict=True):
            panel.set_ylabel(label, fontsize="small", rotation=0, ha="right", va="center")


def write_captions(axes: np.ndarray, captions: Sequence[str] | None) -> None:
    """Write a caption above each image."""
    for panel, caption in zip(axes[:, 0], captions or [], strict=False):
        panel.set_title(caption, fontsize="small")
