"""What the displays share for drawing: matplotlib, imported on use, colours and image grids."""

from collections.abc import Sequence
from numbers import Integral
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .._utils.params import check_argument, number

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
    if ax is not None and figure is not None:
        raise ValueError("Both ax and figure were passed. Pass only one of them.")
    if figure is not None:
        return figure
    if ax is None:
        return plt.figure(figsize=size, layout=layout)
    place = ax.get_subplotspec()
    if place is None:
        raise ValueError(
            "ax is not part of a grid of subplots. Pass axes of plt.subplots, or pass figure."
        )
    ax.set_axis_off()
    return ax.figure.add_subfigure(place)


def open_grid(
    display: Any,
    labels: Sequence[str],
    n_cols: int,
    ax: "Axes | None",
    figure: "Figure | SubFigure | None",
    shots: Sequence[np.ndarray] = (),
) -> "tuple[Figure | SubFigure, np.ndarray]":
    """Return the figure and the axes, of shape (n_images, n_rows), of a display of images.

    Each image has a column of panels: one for each label, which stands at the left of the row.
    Columns beyond ``n_cols`` continue in another band of rows below. Captions and the title are
    those of the display.
    """
    images, captions, n_rows = display.images, display.captions, len(labels)
    if captions is not None and (isinstance(captions, str) or len(captions) != len(images)):
        raise ValueError(
            f"captions must be a list of {len(images)} strings, one for each image; got "
            f"{captions!r}."
        )
    check_argument("n_cols", n_cols, number(Integral, 1))
    n_bands = -(-len(images) // n_cols)
    n_columns = -(-len(images) // n_bands)  # spreads the images evenly over the bands
    aspect = np.median([image.shape[0] / image.shape[1] for image in images])
    height = n_bands * (0.3 + n_rows * PANEL_INCHES * np.clip(aspect, 0.3, 3))
    size = n_columns * PANEL_INCHES + 1, height + 0.3
    have_one_shape = len({image.shape for image in [*images, *shots]}) == 1
    layout: Any = "compressed" if have_one_shape else "constrained"
    figure = open_canvas(type(display), size, ax, figure, layout)
    grid = figure.subplots(n_bands * n_rows, n_columns, squeeze=False)
    by_image = grid.reshape(n_bands, n_rows, n_columns).swapaxes(1, 2).reshape(-1, n_rows)
    for panel in by_image[len(images) :].ravel():
        panel.remove()
    by_image = by_image[: len(images)]
    for panel in by_image.ravel():
        panel.set(xticks=[], yticks=[])
    for first in by_image[::n_columns]:
        for panel, label in zip(first, labels, strict=True):
            panel.set_ylabel(label, fontsize="small", rotation=0, ha="right", va="center")
    for panel, caption in zip(by_image[:, 0], captions or [], strict=False):
        panel.set_title(caption, fontsize="small")
    if display.name is not None:
        figure.suptitle(display.name)
    return figure, by_image
