"""Plot images and their anomaly maps."""

from collections.abc import Sequence
from numbers import Real
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
from sklearn.utils import check_array

from .._detector import COFTDetector
from .._input.types import ImagesLike
from .._utils.params import number
from ..report._images import MAP_MAX
from ._canvas import (
    grid_size,
    import_pyplot,
    label_rows,
    layout_for,
    make_grid,
    open_canvas,
    write_captions,
)
from ._images import check_captions, load_images, load_images_like, split_pipeline

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colorbar import Colorbar
    from matplotlib.contour import ContourSet
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.image import AxesImage


class AnomalyMapDisplay:
    """Images and, below them, their anomaly maps, all on one scale.

    Create it with :meth:`from_estimator` or :meth:`from_predictions`. All parameters are stored
    as attributes.

    Parameters
    ----------
    images : list of ndarray of shape (H, W, 3)
        The images, uint8. Their sizes may differ.
    maps : list of ndarray of shape (H, W)
        The map of each image; higher means more anomalous. NaN is not drawn.
    captions : list of str, default=None
        A caption above each image.
    name : str, default=None
        Title of the figure.

    Attributes
    ----------
    axes_ : ndarray of Axes, of shape (n_images, 2)
        The axes of each image and of its map.
    figure_ : Figure or SubFigure
        The figure that contains the axes.
    map_images_ : list of AxesImage
        The plotted maps.
    contours_ : list of (ContourSet, ContourSet) or None
        The contours around regions above ``threshold``, on the image and on its map. None for
        images whose map does not exceed it.
    colorbar_ : Colorbar
        The scale of all maps.

    See Also
    --------
    ScoreDisplay : Scores of whole images.
    NearestShotsDisplay : Images and the training images most similar to them.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> import numpy as np
    >>> from skcoft import COFTDetector
    >>> from skcoft.plotting import AnomalyMapDisplay
    >>> images = np.random.default_rng(0).random((6, 24, 24))
    >>> images[5, 8:16, 8:16] = 1
    >>> detector = COFTDetector("resnet10t", weights=None, image_size=32, max_iter=2,
    ...                         random_state=0).fit(images[:4])
    >>> display = AnomalyMapDisplay.from_estimator(
    ...     detector, images[4:], captions=["normal", "with a hole"], threshold=3
    ... )
    >>> plt.show()  # doctest: +SKIP
    """

    def __init__(
        self,
        *,
        images: Sequence[np.ndarray],
        maps: Sequence[npt.ArrayLike],
        captions: Sequence[str] | None = None,
        name: str | None = None,
    ) -> None:
        self.images = images
        self.maps = maps
        self.captions = captions
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        detector: COFTDetector,
        X: ImagesLike,
        *,
        captions: Sequence[str] | None = None,
        name: str | None = None,
        threshold: float | Literal["auto"] | None = None,
        vmin: float = 0,
        vmax: float | None = None,
        n_cols: int = 6,
        ax: "Axes | None" = None,
        figure: "Figure | SubFigure | None" = None,
    ) -> "AnomalyMapDisplay":
        """Compute the anomaly maps of images with a fitted detector and plot them.

        Parameters
        ----------
        detector : COFTDetector
            A fitted detector, or a pipeline that ends in one.
        X : images, see the user guide
            Images to plot, in the same format as in ``fit``.
        captions : list of str, default=None
            A caption above each image, for example its score.
        name : str, default=None
            Title of the figure.
        threshold : float or "auto", default=None
            Value of the maps at which contours are drawn. If None, none are drawn. ``"auto"``
            means the detector's ``map_threshold_``; the contours then enclose the regions that
            ``find_regions`` returns.
        vmin, vmax, n_cols, ax, figure : object
            See :meth:`plot`.

        Returns
        -------
        AnomalyMapDisplay
            The display with the plot.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        NotFittedError
            If the detector is not fitted.
        TypeError
            If ``detector`` is of another type.
        ValueError
            If X is invalid or in another format than in ``fit``, the detector has no patch
            density, or an option is invalid.
        """
        import_pyplot(cls)
        detector, prepare = split_pipeline(detector)
        X = prepare(X)
        maps = list(detector.anomaly_map(X))
        if isinstance(threshold, str) and threshold == "auto":
            threshold = detector.map_threshold_
        display = cls(
            images=load_images_like(detector, X), maps=maps, captions=captions, name=name
        )
        return display.plot(
            ax,
            figure=figure,
            threshold=threshold,
            vmin=vmin,
            vmax=vmax,
            n_cols=n_cols,
        )

    @classmethod
    def from_predictions(
        cls,
        images: ImagesLike,
        maps: Sequence[npt.ArrayLike] | np.ndarray,
        *,
        bit_depth: int | None = None,
        captions: Sequence[str] | None = None,
        name: str | None = None,
        threshold: float | None = None,
        vmin: float = 0,
        vmax: float | None = None,
        n_cols: int = 6,
        ax: "Axes | None" = None,
        figure: "Figure | SubFigure | None" = None,
    ) -> "AnomalyMapDisplay":
        """Plot images and their anomaly maps.

        Parameters
        ----------
        images : images, see the user guide
            Images to plot.
        maps : array-like of shape (n_images, H, W), or list of array-likes of shape (H, W)
            The map of each image, of its size. It may be computed by ``anomaly_map`` or otherwise.
        bit_depth : int, default=None
            As in :class:`~skcoft.COFTDetector`.
        captions : list of str, default=None
            A caption above each image, for example its score.
        name : str, default=None
            Title of the figure.
        threshold, vmin, vmax, n_cols, ax, figure : object
            See :meth:`plot`.

        Returns
        -------
        AnomalyMapDisplay
            The display with the plot.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If images are invalid, maps do not match them, or an option is invalid.
        """
        import_pyplot(cls)
        loaded = load_images(images, "images", bit_depth)
        display = cls(images=loaded, maps=list(maps), captions=captions, name=name)
        return display.plot(
            ax, figure=figure, threshold=threshold, vmin=vmin, vmax=vmax, n_cols=n_cols
        )

    def plot(
        self,
        ax: "Axes | None" = None,
        *,
        figure: "Figure | SubFigure | None" = None,
        threshold: float | None = None,
        vmin: float = 0,
        vmax: float | None = None,
        n_cols: int = 6,
    ) -> "AnomalyMapDisplay":
        """Plot images and their maps below them.

        Parameters
        ----------
        ax : Axes, default=None
            Axes to replace by the plot, as returned by
            ``plt.subplots(..., layout="constrained")``. If None, a new figure is created.
        figure : Figure or SubFigure, default=None
            The figure to draw in. Pass either ``ax`` or ``figure``.
        threshold : float, default=None
            Value of the maps at which contours are drawn. If None, none are drawn. For maps of
            ``anomaly_map``, 3 is three standard deviations above the average value of the least
            likely patches of an unseen normal image.
        vmin : float, default=0
            Value of the maps that is black.
        vmax : float, default=None
            Value of the maps that has the brightest colour. If None, the maximum of all maps, but
            at least 6, so that maps of normal images are dark.
        n_cols : int, default=6
            Maximum number of images side by side.

        Returns
        -------
        AnomalyMapDisplay
            The display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If images, maps and captions do not match, or an option is invalid.
        """
        maps = self._checked_maps()
        check_captions(self.captions, len(self.images))
        vmax = max(MAP_MAX, *map(np.nanmax, maps)) if vmax is None else vmax
        if not (isinstance(vmin, Real) and isinstance(vmax, Real) and vmin < vmax):
            raise ValueError(f"vmin must be less than vmax; got vmin={vmin!r}, vmax={vmax!r}.")
        if not (threshold is None or number().test(threshold)):
            raise ValueError(f"threshold must be a finite number or None; got {threshold!r}.")
        n_bands, n_columns, size = grid_size(self.images, 2, n_cols)
        layout = layout_for(self.images)
        self.figure_: Figure | SubFigure = open_canvas(type(self), size, ax, figure, layout)
        self.axes_: np.ndarray = make_grid(self.figure_, len(maps), 2, n_bands, n_columns)
        self.map_images_: list[AxesImage] = []
        self.contours_: list[tuple[ContourSet, ContourSet] | None] = []
        for (above, below), image, anomaly_map in zip(self.axes_, self.images, maps, strict=True):
            above.imshow(image)
            self.map_images_.append(
                below.imshow(anomaly_map, cmap="inferno", vmin=vmin, vmax=vmax)
            )
            self.contours_.append(_draw_contours(above, below, anomaly_map, threshold))
        label_rows(self.axes_, ["image", "map"], n_columns)
        write_captions(self.axes_, self.captions)
        self.colorbar_ = self._colorbar(maps, threshold, vmin, vmax)
        if self.name is not None:
            self.figure_.suptitle(self.name)
        return self

    def _checked_maps(self) -> list[np.ndarray]:
        """Return the maps as arrays; raise ValueError if they do not match the images."""
        if len(self.maps) != len(self.images):
            raise ValueError(
                f"maps holds {len(self.maps)} maps for {len(self.images)} images. Pass one for "
                "each image."
            )
        maps = []
        for i, (values, image) in enumerate(zip(self.maps, self.images, strict=True)):
            anomaly_map = check_array(
                values, dtype=np.float64, ensure_all_finite="allow-nan", input_name=f"maps[{i}]"
            )
            if np.isnan(anomaly_map).all():
                raise ValueError(f"maps[{i}] holds only NaN.")
            if anomaly_map.shape != image.shape[:2]:
                raise ValueError(
                    f"maps[{i}] must have the size of its image, {image.shape[:2]}; got "
                    f"{anomaly_map.shape}."
                )
            maps.append(anomaly_map)
        return maps

    def _colorbar(
        self, maps: Sequence[np.ndarray], threshold: float | None, vmin: float, vmax: float
    ) -> "Colorbar":
        """Draw the scale of all maps; its ends are pointed if values are outside of it."""
        below, above = min(map(np.nanmin, maps)) < vmin, max(map(np.nanmax, maps)) > vmax
        extend = {(0, 0): "neither", (1, 0): "min", (0, 1): "max", (1, 1): "both"}[below, above]
        bar = self.figure_.colorbar(
            self.map_images_[0], ax=self.axes_.ravel().tolist(), extend=extend, aspect=30
        )
        bar.set_label("anomaly map", fontsize="small")
        if threshold is not None and vmin <= threshold <= vmax:
            bar.ax.axhline(threshold, color="white", linewidth=1.5)
        return bar


def _draw_contours(
    above: "Axes", below: "Axes", anomaly_map: np.ndarray, threshold: float | None
) -> "tuple[ContourSet, ContourSet] | None":
    """Draw contours at the threshold, white with a black border to be visible on any image."""
    if threshold is None or not np.nanmin(anomaly_map) < threshold <= np.nanmax(anomaly_map):
        return None
    from matplotlib.patheffects import withStroke

    def draw(panel: "Axes") -> "ContourSet":
        contour = panel.contour(anomaly_map, levels=[threshold], colors="white", linewidths=1.2)
        contour.set_path_effects([withStroke(linewidth=2.6, foreground="black")])
        return contour

    return draw(above), draw(below)
