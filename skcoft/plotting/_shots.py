"""Which shots images are nearest to, in a picture."""

from numbers import Integral

import numpy as np

from ..report._training_images import check_shots
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


class NearestShotsDisplay:
    """Images above the shots that they are nearest to: what a decision leans on.

    Make it by :meth:`from_estimator` or :meth:`from_predictions`; parameters are stored as
    attributes.

    Parameters
    ----------
    images : list of ndarray of shape (H, W, 3)
        The images, uint8; sizes may differ.
    shots : list of ndarray of shape (H, W, 3)
        The shots, likewise.
    distances : ndarray of shape (n_images, n_neighbors)
        Distances of each image from its nearest shots, nearest first.
    indices : ndarray of shape (n_images, n_neighbors)
        Which shots these are.
    captions : list of str, default=None
        A text above each image.
    name : str, default=None
        Title of the whole.

    Attributes
    ----------
    axes_ : ndarray of Axes, of shape (n_images, 1 + n_neighbors)
        Of each image, its axes and those of its nearest shots.
    figure_ : Figure or SubFigure
        What they are in.

    See Also
    --------
    AnomalyMapDisplay : Where images depart from the shots.
    ScoreDisplay : What images score as a whole.

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

    def __init__(self, *, images, shots, distances, indices, captions=None, name=None):
        self.images = images
        self.shots = shots
        self.distances = distances
        self.indices = indices
        self.captions = captions
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        detector,
        X,
        shots,
        *,
        n_neighbors=3,
        captions=None,
        name=None,
        n_cols=6,
        ax=None,
        figure=None,
    ):
        """Find the nearest shots by a fitted detector, which keeps no images, and draw them.

        Parameters
        ----------
        detector : COFTDetector
            A fitted detector, or a pipeline that ends in one.
        X : images, see the user guide
            A few images to draw; of the kind seen in fit.
        shots : images, see the user guide
            The normal images of fit, then of every partial_fit, in their order.
        n_neighbors : int, default=3
            How many shots to draw for each image.
        captions : list of str, default=None
            A text above each image, its score for example.
        name : str, default=None
            Title of the whole.
        n_cols, ax, figure : object
            See :meth:`plot`.

        Returns
        -------
        NearestShotsDisplay
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
            If X is invalid, ``shots`` are not those of fit, or an option is invalid.
        """
        import_pyplot(cls)
        detector, before = split_pipeline(detector)
        X, shots = before(X), before(shots)
        drawn = {"images": pictures_for(detector, X)}
        drawn["shots"] = pictures_for(detector, shots, "shots")
        check_shots(detector, shots)
        drawn["distances"], drawn["indices"] = detector.kneighbors(X, n_neighbors)
        display = cls(**drawn, captions=captions, name=name)
        return display.plot(ax, figure=figure, n_cols=n_cols)

    @classmethod
    def from_predictions(
        cls,
        images,
        shots,
        distances,
        indices,
        *,
        bit_depth=None,
        captions=None,
        name=None,
        n_cols=6,
        ax=None,
        figure=None,
    ):
        """Draw neighbours that are known.

        Parameters
        ----------
        images : images, see the user guide
            A few images to draw.
        shots : images, see the user guide
            The images that may be neighbours.
        distances : array-like of shape (n_images, n_neighbors)
            Distances of each image from its nearest shots, as ``kneighbors`` returns them.
        indices : array-like of shape (n_images, n_neighbors)
            Which shots these are.
        bit_depth : int, default=None
            As in :class:`~skcoft.COFTDetector`.
        captions : list of str, default=None
            A text above each image, its score for example.
        name : str, default=None
            Title of the whole.
        n_cols, ax, figure : object
            See :meth:`plot`.

        Returns
        -------
        NearestShotsDisplay
            The display, drawn.

        Raises
        ------
        ImportError
            Without matplotlib.
        ValueError
            If images or shots are invalid, distances and indices do not fit them, or an option is
            invalid.
        """
        import_pyplot(cls)
        display = cls(
            images=pictures_of(images, "images", bit_depth),
            shots=pictures_of(shots, "shots", bit_depth),
            distances=np.asarray(distances),
            indices=np.asarray(indices),
            captions=captions,
            name=name,
        )
        return display.plot(ax, figure=figure, n_cols=n_cols)

    def plot(self, ax=None, *, figure=None, n_cols=6):
        """Draw images above their nearest shots.

        Parameters
        ----------
        ax : Axes, default=None
            Axes whose place the pictures take, of ``plt.subplots(..., layout="constrained")``.
            None means a new figure.
        figure : Figure or SubFigure, default=None
            What to draw in instead.
        n_cols : int, default=6
            Images side by side; more go below.

        Returns
        -------
        NearestShotsDisplay
            The display.

        Raises
        ------
        ImportError
            Without matplotlib.
        ValueError
            If images, neighbours and captions do not fit each other, or an option is invalid.
        """
        self._check_neighbours()
        check_captions(self.captions, len(self.images))
        n_rows = 1 + self.indices.shape[1]
        bands, columns, size = grid_size(self.images, n_rows, n_cols)
        layout = layout_for([*self.images, *self.shots])
        self.figure_ = open_canvas(type(self), size, ax, figure, layout)
        self.axes_ = make_grid(self.figure_, len(self.images), n_rows, bands, columns)
        drawn = zip(self.axes_, self.images, self.distances, self.indices, strict=True)
        for (above, *below), image, distances, indices in drawn:
            above.imshow(image)
            for axes, distance, index in zip(below, distances, indices, strict=True):
                axes.imshow(self.shots[index])
                axes.set_title(f"shot {index}: {distance:#.3g}", fontsize="small", pad=3)
        label_rows(self.axes_, ["image", "nearest\nshot", *["next"] * (n_rows - 2)], columns)
        write_captions(self.axes_, self.captions)
        if self.name is not None:
            self.figure_.suptitle(self.name)
        return self

    def _check_neighbours(self):
        shape, n = self.indices.shape, len(self.images)
        if len(shape) != 2 or shape[0] != n or shape[1] == 0 or self.distances.shape != shape:
            raise ValueError(
                f"distances and indices must have shape ({n}, n_neighbors), a row for each image; "
                f"got {self.distances.shape} and {shape}."
            )
        known = range(len(self.shots))
        if not all(isinstance(i, Integral) and i in known for i in self.indices.ravel().tolist()):
            raise ValueError(
                f"indices must be those of shots, 0 to {known[-1]}; got {self.indices.tolist()}."
            )
