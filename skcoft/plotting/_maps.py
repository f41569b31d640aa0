"""Where images depart from the shots, in a picture."""

from numbers import Real

import numpy as np
from sklearn.utils import check_array

from .._utils.params import number
from ..report._tables import BRIGHTEST
from ._canvas import (
    grid_size,
    import_pyplot,
    label_rows,
    layout_for,
    make_grid,
    open_canvas,
    write_captions,
)
from ._pictures import check_captions, pictures_for, pictures_of, split_pipeline


class AnomalyMapDisplay:
    """Images above their anomaly maps, all maps on one scale.

    Make it by :meth:`from_estimator` or :meth:`from_predictions`; parameters are stored as
    attributes.

    Parameters
    ----------
    images : list of ndarray of shape (H, W, 3)
        The images, uint8; sizes may differ.
    maps : list of ndarray of shape (H, W)
        The map of each, higher means more anomalous; NaN where nothing is to be drawn.
    captions : list of str, default=None
        A text above each image.
    name : str, default=None
        Title of the whole.

    Attributes
    ----------
    axes_ : ndarray of Axes, of shape (n_images, 2)
        Of each image, its axes and those of its map.
    figure_ : Figure or SubFigure
        What they are in.
    map_images_ : list of AxesImage
        The maps as drawn.
    contours_ : list of (ContourSet, ContourSet) or None
        Of each image that reaches ``threshold``, the lines around what is above it, on the image
        and on its map; None for the others.
    colorbar_ : Colorbar
        The scale of all maps.

    See Also
    --------
    ScoreDisplay : What images score as a whole.
    NearestShotsDisplay : Which shots they resemble.

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

    def __init__(self, *, images, maps, captions=None, name=None):
        self.images = images
        self.maps = maps
        self.captions = captions
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        detector,
        X,
        *,
        captions=None,
        name=None,
        threshold=None,
        vmin=0,
        vmax=None,
        n_cols=6,
        ax=None,
        figure=None,
    ):
        """Map images by a fitted detector and draw both.

        Parameters
        ----------
        detector : COFTDetector
            A fitted detector, or a pipeline that ends in one.
        X : images, see the user guide
            A few images to draw; of the kind seen in fit.
        captions : list of str, default=None
            A text above each image, its score for example.
        name : str, default=None
            Title of the whole.
        threshold : float or "auto", default=None
            Value of the maps around which a line is drawn. None draws none, ``"auto"`` means the
            detector's ``map_threshold_``: lines go around what ``find_regions`` finds.
        vmin, vmax, n_cols, ax, figure : object
            See :meth:`plot`.

        Returns
        -------
        AnomalyMapDisplay
            The display, drawn.

        Raises
        ------
        ImportError
            Without matplotlib.
        NotFittedError
            If the detector is not fitted.
        TypeError
            If it is no such detector.
        ValueError
            If X is invalid or of another kind than in fit, the detector has no local density, or
            an option is invalid.
        """
        import_pyplot(cls)
        detector, before = split_pipeline(detector)
        X = before(X)
        maps = list(detector.anomaly_map(X))
        if isinstance(threshold, str) and threshold == "auto":
            threshold = detector.map_threshold_
        display = cls(images=pictures_for(detector, X), maps=maps, captions=captions, name=name)
        return display.plot(
            ax, figure=figure, threshold=threshold, vmin=vmin, vmax=vmax, n_cols=n_cols
        )

    @classmethod
    def from_predictions(
        cls,
        images,
        maps,
        *,
        bit_depth=None,
        captions=None,
        name=None,
        threshold=None,
        vmin=0,
        vmax=None,
        n_cols=6,
        ax=None,
        figure=None,
    ):
        """Draw images and maps that exist.

        Parameters
        ----------
        images : images, see the user guide
            A few images to draw.
        maps : array-like of shape (n_images, H, W), or list of array-likes of shape (H, W)
            The map of each, of its size; ``anomaly_map``'s or any other's.
        bit_depth : int, default=None
            As in :class:`~skcoft.COFTDetector`.
        captions : list of str, default=None
            A text above each image, its score for example.
        name : str, default=None
            Title of the whole.
        threshold, vmin, vmax, n_cols, ax, figure : object
            See :meth:`plot`.

        Returns
        -------
        AnomalyMapDisplay
            The display, drawn.

        Raises
        ------
        ImportError
            Without matplotlib.
        ValueError
            If images are invalid, maps do not fit them, or an option is invalid.
        """
        import_pyplot(cls)
        pictures = pictures_of(images, "images", bit_depth)
        display = cls(images=pictures, maps=list(maps), captions=captions, name=name)
        return display.plot(
            ax, figure=figure, threshold=threshold, vmin=vmin, vmax=vmax, n_cols=n_cols
        )

    def plot(self, ax=None, *, figure=None, threshold=None, vmin=0, vmax=None, n_cols=6):
        """Draw images above their maps.

        Parameters
        ----------
        ax : Axes, default=None
            Axes whose place the pictures take, of ``plt.subplots(..., layout="constrained")``.
            None means a new figure.
        figure : Figure or SubFigure, default=None
            What to draw in instead.
        threshold : float, default=None
            Value of the maps around which a line is drawn. None draws none. With maps of
            ``anomaly_map``, 3 is three standard deviations above what the least likely spots of
            an unseen normal image reach on average.
        vmin : float, default=0
            Value of the maps that is black.
        vmax : float, default=None
            Value of the maps that is brightest. None means the greatest of all maps, and 6 at
            least, so that maps of normal images stay dark.
        n_cols : int, default=6
            Images side by side; more go below.

        Returns
        -------
        AnomalyMapDisplay
            The display.

        Raises
        ------
        ImportError
            Without matplotlib.
        ValueError
            If images, maps and captions do not fit each other, or an option is invalid.
        """
        maps = self._checked_maps()
        check_captions(self.captions, len(self.images))
        vmax = max(BRIGHTEST, *map(np.nanmax, maps)) if vmax is None else vmax
        if not (isinstance(vmin, Real) and isinstance(vmax, Real) and vmin < vmax):
            raise ValueError(f"vmin must be a number below vmax; got {vmin!r} and {vmax!r}.")
        if not (threshold is None or number()[0](threshold)):
            raise ValueError(f"threshold must be a finite number or None; got {threshold!r}.")
        bands, columns, size = grid_size(self.images, 2, n_cols)
        layout = layout_for(self.images)
        self.figure_ = open_canvas(type(self), size, ax, figure, layout)
        self.axes_ = make_grid(self.figure_, len(maps), 2, bands, columns)
        self.map_images_, self.contours_ = [], []
        for (above, below), image, drawn in zip(self.axes_, self.images, maps, strict=True):
            above.imshow(image)
            self.map_images_.append(below.imshow(drawn, cmap="inferno", vmin=vmin, vmax=vmax))
            self.contours_.append(_contours(above, below, drawn, threshold))
        label_rows(self.axes_, ["image", "map"], columns)
        write_captions(self.axes_, self.captions)
        self.colorbar_ = self._colorbar(maps, threshold, vmin, vmax)
        if self.name is not None:
            self.figure_.suptitle(self.name)
        return self

    def _checked_maps(self):
        if len(self.maps) != len(self.images):
            raise ValueError(
                f"maps must hold one map for each of the {len(self.images)} images; got "
                f"{len(self.maps)}."
            )
        maps = []
        for i, (drawn, image) in enumerate(zip(self.maps, self.images, strict=True)):
            drawn = check_array(
                drawn, dtype=np.float64, ensure_all_finite="allow-nan", input_name=f"maps[{i}]"
            )
            if np.isnan(drawn).all():
                raise ValueError(f"maps[{i}] holds nothing but NaN.")
            if drawn.shape != image.shape[:2]:
                raise ValueError(
                    f"maps[{i}] must have the size of its image, {image.shape[:2]}; got "
                    f"{drawn.shape}."
                )
            maps.append(drawn)
        return maps

    def _colorbar(self, maps, threshold, vmin, vmax):
        below, above = min(map(np.nanmin, maps)) < vmin, max(map(np.nanmax, maps)) > vmax
        extend = {(0, 0): "neither", (1, 0): "min", (0, 1): "max", (1, 1): "both"}[below, above]
        bar = self.figure_.colorbar(
            self.map_images_[0], ax=self.axes_.ravel().tolist(), extend=extend, aspect=30
        )
        bar.set_label("anomaly map", fontsize="small")
        if threshold is not None and vmin <= threshold <= vmax:
            bar.ax.axhline(threshold, color="white", linewidth=1.5)
        return bar


def _contours(above, below, drawn, threshold):
    """Draw the line around what is above the threshold, white within black: on any ground."""
    if threshold is None or not np.nanmin(drawn) < threshold <= np.nanmax(drawn):
        return None
    from matplotlib.patheffects import withStroke

    look = {"levels": [threshold], "colors": "white", "linewidths": 1.2}
    contours = above.contour(drawn, **look), below.contour(drawn, **look)
    for contour in contours:
        contour.set_path_effects([withStroke(linewidth=2.6, foreground="black")])
    return contours
