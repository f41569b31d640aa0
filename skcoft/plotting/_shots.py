"""Plot images and the training images nearest to them."""

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .._detector import COFTDetector
from .._input.types import ImagesLike
from ..report._training_images import check_shots
from ._canvas import import_pyplot, open_grid
from ._images import load_images, load_images_like, split_pipeline

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure


@dataclass(kw_only=True, eq=False, repr=False)
class NearestShotsDisplay:
    """Images and, below them, the training images (shots) nearest to them.

    Create it with :meth:`from_estimator` or :meth:`from_predictions`. All parameters are stored
    as attributes.

    Parameters
    ----------
    images : list of ndarray of shape (H, W, 3)
        The images, uint8. Their sizes may differ.
    shots : list of ndarray of shape (H, W, 3)
        The training images, uint8. Their sizes may differ.
    distances : ndarray of shape (n_images, n_neighbors)
        Distances from each image to its nearest shots, nearest first.
    indices : ndarray of shape (n_images, n_neighbors)
        Indices of the nearest shots.
    captions : list of str, default=None
        A caption above each image.
    name : str, default=None
        Title of the figure.
    suspects : sequence of int, default=()
        Indices of shots that may not be normal. Their titles are red and say so.

    Attributes
    ----------
    axes_ : ndarray of Axes, of shape (n_images, 1 + n_neighbors)
        The axes of each image and of its nearest shots.
    figure_ : Figure or SubFigure
        The figure that contains the axes.

    See Also
    --------
    AnomalyMapDisplay : Images and their anomaly maps.
    ScoreDisplay : Scores of whole images.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> import numpy as np
    >>> from skcoft import COFTDetector
    >>> from skcoft.plotting import NearestShotsDisplay
    >>> images = np.random.default_rng(0).random((8, 24, 24))
    >>> detector = COFTDetector("resnet10t", weights=None, image_size=32, max_iter=2,
    ...                         random_state=0).fit(images[:5])
    >>> display = NearestShotsDisplay.from_estimator(
    ...     detector, images[5:], images[:5], n_neighbors=2
    ... )
    >>> plt.show()  # doctest: +SKIP
    """

    images: Sequence[np.ndarray]
    shots: Sequence[np.ndarray]
    distances: np.ndarray
    indices: np.ndarray
    captions: Sequence[str] | None = None
    name: str | None = None
    suspects: Sequence[int] | np.ndarray = ()

    @classmethod
    def from_estimator(
        cls,
        detector: COFTDetector,
        X: ImagesLike,
        shots: ImagesLike,
        *,
        n_neighbors: int = 3,
        captions: Sequence[str] | None = None,
        name: str | None = None,
        n_cols: int = 6,
        ax: "Axes | None" = None,
        figure: "Figure | SubFigure | None" = None,
    ) -> "NearestShotsDisplay":
        """Find the nearest shots with a fitted detector and plot them.

        Suspect shots (``suspect_shots_``) are marked.

        Parameters
        ----------
        detector : COFTDetector
            A fitted detector, or a pipeline that ends in one.
        X : images, see the user guide
            Images to plot, in the same format as in ``fit``.
        shots : images, see the user guide
            The normal images passed to ``fit``, then those passed to each ``partial_fit``, in
            their order. Pass them here because a detector does not store its training images.
        n_neighbors : int, default=3
            Number of shots to plot for each image.
        captions : list of str, default=None
            A caption above each image, for example its score.
        name : str, default=None
            Title of the figure.
        n_cols, ax, figure : object
            See :meth:`plot`.

        Returns
        -------
        NearestShotsDisplay
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
            If X is invalid, ``shots`` differ from the images passed to ``fit``, or an option is
            invalid.
        """
        import_pyplot(cls)
        detector, prepare = split_pipeline(detector)
        X, shots = prepare(X), prepare(shots)
        images = load_images_like(detector, X)
        shot_images = load_images_like(detector, shots, "shots")
        check_shots(detector, shots)
        distances, indices = detector.kneighbors(X, n_neighbors)
        display = cls(
            images=images,
            shots=shot_images,
            distances=distances,
            indices=indices,
            captions=captions,
            name=name,
            suspects=detector.suspect_shots_,
        )
        return display.plot(ax, figure=figure, n_cols=n_cols)

    @classmethod
    def from_predictions(
        cls,
        images: ImagesLike,
        shots: ImagesLike,
        distances: npt.ArrayLike,
        indices: npt.ArrayLike,
        *,
        bit_depth: int | None = None,
        captions: Sequence[str] | None = None,
        name: str | None = None,
        n_cols: int = 6,
        ax: "Axes | None" = None,
        figure: "Figure | SubFigure | None" = None,
    ) -> "NearestShotsDisplay":
        """Plot images and their nearest shots, as returned by ``kneighbors``.

        Parameters
        ----------
        images : images, see the user guide
            Images to plot.
        shots : images, see the user guide
            The training images.
        distances : array-like of shape (n_images, n_neighbors)
            Distances from each image to its nearest shots, as returned by ``kneighbors``.
        indices : array-like of shape (n_images, n_neighbors)
            Indices of the nearest shots, as returned by ``kneighbors``.
        bit_depth : int, default=None
            As in :class:`~skcoft.COFTDetector`.
        captions : list of str, default=None
            A caption above each image, for example its score.
        name : str, default=None
            Title of the figure.
        n_cols, ax, figure : object
            See :meth:`plot`.

        Returns
        -------
        NearestShotsDisplay
            The display with the plot.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If images or shots are invalid, distances and indices do not match them, or an option
            is invalid.
        """
        import_pyplot(cls)
        display = cls(
            images=load_images(images, "images", bit_depth),
            shots=load_images(shots, "shots", bit_depth),
            distances=np.asarray(distances),
            indices=np.asarray(indices),
            captions=captions,
            name=name,
        )
        return display.plot(ax, figure=figure, n_cols=n_cols)

    def plot(
        self,
        ax: "Axes | None" = None,
        *,
        figure: "Figure | SubFigure | None" = None,
        n_cols: int = 6,
    ) -> "NearestShotsDisplay":
        """Plot images and their nearest shots below them.

        Parameters
        ----------
        ax : Axes, default=None
            Axes to replace by the plot, as returned by
            ``plt.subplots(..., layout="constrained")``. If None, a new figure is created.
        figure : Figure or SubFigure, default=None
            The figure to draw in. Pass either ``ax`` or ``figure``.
        n_cols : int, default=6
            Maximum number of images side by side.

        Returns
        -------
        NearestShotsDisplay
            The display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If images, neighbours and captions do not match, or an option is invalid.
        """
        self._check_neighbors()
        labels = ["image", "nearest\nshot", *["next\nnearest"] * (self.indices.shape[1] - 1)]
        self.figure_, self.axes_ = open_grid(self, labels, n_cols, ax, figure, self.shots)
        columns = zip(self.axes_, self.images, self.distances, self.indices, strict=True)
        for (above, *below), image, distances, indices in columns:
            above.imshow(image)
            for axes, distance, index in zip(below, distances, indices, strict=True):
                axes.imshow(self.shots[index])
                title = f"shot {index}: {distance:#.3g}"
                axes.set_title(title, fontsize="small", pad=3)
                if index in self.suspects:
                    axes.set_title(f"{title}\nsuspect", fontsize="small", pad=3, color="C3")
        return self

    def _check_neighbors(self) -> None:
        """Raise ValueError if distances and indices do not match images and shots."""
        shape, n = self.indices.shape, len(self.images)
        if len(shape) != 2 or shape[0] != n or shape[1] == 0 or self.distances.shape != shape:
            raise ValueError(
                f"distances and indices must have shape ({n}, n_neighbors), a row for each image; "
                f"got {self.distances.shape} and {shape}."
            )
        valid = range(len(self.shots))
        if not all(isinstance(i, Integral) and i in valid for i in self.indices.ravel().tolist()):
            raise ValueError(
                f"indices must be integers from 0 to {valid[-1]}, because there are {len(valid)} "
                f"shots; got {self.indices.tolist()}."
            )
