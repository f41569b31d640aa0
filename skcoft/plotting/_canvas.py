"""What the displays share in drawing: matplotlib on use, colours, and grids of pictures."""

from numbers import Integral

import numpy as np

from .._utils.params import number

# Okabe and Ito's colours, which every kind of eye tells apart
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILLION, PURPLE, GRAY = "#0072B2", "#D55E00", "#CC79A7", "#767676"
PANEL = 1.55  # inches


def import_pyplot(display):
    """Return matplotlib.pyplot, or raise an ImportError that says what to install."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            f'{display.__name__} draws with matplotlib: pip install "skcoft[plot]".'
        ) from error
    return plt


def open_canvas(display, size, ax, figure, layout="constrained"):
    """Return the (sub)figure to draw a grid in: a new one, the given one, or one in place of ax.

    Axes have one pair of coordinates; what is drawn in their place is a subfigure.
    """
    plt = import_pyplot(display)
    if ax is None and figure is None:
        return plt.figure(figsize=size, layout=layout)
    if ax is None:
        return figure
    if figure is not None:
        raise ValueError("Pass ax or figure, not both: a grid is drawn in the place of either.")
    place = ax.get_subplotspec()
    if place is None:
        raise ValueError(
            "ax must have a place in a grid, as of plt.subplots, which the pictures take; "
            "pass figure= instead."
        )
    ax.set_axis_off()
    return ax.figure.add_subfigure(place)


def grid_size(images, n_rows, n_cols):
    """Return the bands of a grid, its columns, and the size in inches of a figure for it."""
    if not number(Integral, 1)[0](n_cols):
        raise ValueError(f"n_cols must be an integer >= 1; got {n_cols!r}.")
    bands = -(-len(images) // n_cols)
    columns = -(-len(images) // bands)  # as many in each band, as far as can be
    tall = np.median([image.shape[0] / image.shape[1] for image in images])
    height = bands * (0.3 + n_rows * PANEL * np.clip(tall, 0.3, 3))
    return bands, columns, (columns * PANEL + 1, height + 0.3)


def make_grid(figure, n_images, n_rows, bands, columns):
    """Return axes (n_images, n_rows) without ticks: a column each, in as many bands as needed."""
    grid = figure.subplots(bands * n_rows, columns, squeeze=False)
    by_image = grid.reshape(bands, n_rows, columns).swapaxes(1, 2).reshape(-1, n_rows)
    for axes in by_image[n_images:].ravel():
        axes.remove()
    for axes in by_image[:n_images].ravel():
        axes.set(xticks=[], yticks=[])
    return by_image[:n_images]


def layout_for(images):
    """Return the layout that suits a grid: images of one shape can stand close together."""
    return "compressed" if len({image.shape for image in images}) == 1 else "constrained"


def label_rows(axes, labels, columns):
    """Write what each row shows, at the left of every band."""
    for first in axes[::columns]:
        for place, label in zip(first, labels, strict=True):
            place.set_ylabel(label, fontsize="small", rotation=0, ha="right", va="center")


def write_captions(axes, captions):
    """Write a text above each image."""
    for place, caption in zip(axes[:, 0], captions or [], strict=False):
        place.set_title(caption, fontsize="small")
