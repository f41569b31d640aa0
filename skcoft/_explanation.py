"""What a decision leans on: where an image departs, and which shots are nearest."""

from numbers import Integral

import numpy as np
from sklearn.neighbors import NearestNeighbors
from sklearn.utils.validation import check_is_fitted

from ._evidence.maps import regions_from_map, resize_map
from ._input.mask import hide_outside
from ._utils.params import number
from ._utils.torch_context import torch_defaults

FAR = 0.05  # between embeddings of one image, on whatever devices


class ExplanationMixin:
    """What a fitted detector's joint score and embeddings say of a decision."""

    def anomaly_map(self, X):
        """Where each image departs from the shots.

        Parameters
        ----------
        X : images, see the user guide
            What to map; of the kind seen in fit.

        Returns
        -------
        ndarray of shape (n_samples, H, W), or list of n_samples ndarrays of shape (H, W)
            Negative local log density at the resolution of the images, float64, higher means
            more anomalous; a list where the images differ in size. The scale is that of fit, the
            same for every image: 0 is what the least likely spots of an unseen normal image
            reach on average, 1 is one standard deviation above. NaN outside of ``mask``.

        Raises
        ------
        ValueError
            If X is invalid or of another kind than in fit, or the detector has no local density.
        """
        drawing = self._drawing("anomaly_map")
        inputs = self._read(X)
        enlarged = list(self._draw(inputs, drawing))
        return np.stack(enlarged) if self._shown(inputs).common_size else enlarged

    def _shown(self, inputs):
        """Return the images that maps are laid over: those of the first modality."""
        return self.embedder_.encoders_[0].select_modality(inputs)

    def _drawing(self, name):
        """Return the parts that draw maps; ValueError, which names a method, without any."""
        check_is_fitted(self, "embedder_")
        drawing = self._joint.map_components()
        if not drawing:
            raise ValueError(
                f"{name} needs images, local other than False and a backbone with feature "
                f"maps (timm, or a module that returns them); got local={self.local!r}, "
                f"backbone={self.backbone!r}."
            )
        return drawing

    def _draw(self, inputs, drawing):
        """Yield the map of each input, at its own size."""
        methods = {key: part.log_maps for key, part in drawing.items()}
        with torch_defaults():
            maps = self._joint.maps(self._joint.summarize(inputs, methods))
        shown = self._shown(inputs)
        for drawn, size in zip(maps, shown.sizes, strict=True):
            yield hide_outside(resize_map(drawn, size), shown.mask)

    def find_regions(self, X, *, threshold=None):
        """Find the regions of each image where its anomaly map is above a threshold.

        Parameters
        ----------
        X : images, see the user guide
            Where to look; of the kind seen in fit. Read in pieces, as by :meth:`score_samples`.
        threshold : float, default=None
            Value of :meth:`anomaly_map` that a region is above. None means ``map_threshold_``,
            which about 5 % of unseen normal images reach anywhere. A lower one finds more, in
            normal images too.

        Returns
        -------
        list of n_samples lists of :class:`~sklearn.utils.Bunch`
            Of each image its connected regions (also over corners), that of the highest peak
            first; an empty list where there is none. Of each region:

            - ``box``: (top, left, bottom, right) in pixels of the image, ``image[top:bottom,
              left:right]``;
            - ``area``: its number of pixels;
            - ``peak`` and ``mean``: of the map inside it;
            - ``mask``: boolean array of the box's size, True in the region.

        Raises
        ------
        ValueError
            If X is invalid or of another kind than in fit, the detector has no local density,
            ``threshold`` is no number, or is None and ``map_threshold_`` is as well.

        Examples
        --------
        >>> from skcoft import COFTDetector
        >>> from skcoft.datasets import make_plates
        >>> plates = make_plates(8, 4, size=128, random_state=0)
        >>> detector = COFTDetector("embedded", max_iter=0).fit(plates.images[:8])
        >>> dent = detector.find_regions(plates.images[8:])[3][0]
        >>> top, left, bottom, right = dent.box
        >>> bool(plates.masks[11][top:bottom, left:right][dent.mask].any())
        True
        """
        drawing = self._drawing("find_regions")
        threshold = self.map_threshold_ if threshold is None else threshold
        if not number()[0](threshold):
            raise ValueError(
                f"threshold must be a finite number, or None where map_threshold_ is one; got "
                f"{threshold!r}."
            )
        return [
            regions_from_map(drawn, threshold)
            for inputs in self._pieces(X)
            for drawn in self._draw(inputs, drawing)
        ]

    def kneighbors(self, X, n_neighbors=1, *, return_distance=True):
        """Find the shots that a decision leans on.

        Parameters
        ----------
        X : images or rows, see the user guide
            The queries; of the kind seen in fit.
        n_neighbors : int, default=1
            How many shots to find for each.
        return_distance : bool, default=True
            Whether to return the distances too.

        Returns
        -------
        distances : ndarray of shape (n_samples, n_neighbors)
            Euclidean distances of embeddings, nearest first; only with ``return_distance``.
        indices : ndarray of shape (n_samples, n_neighbors)
            Indices of shots, in the order of fit, then of every partial_fit.

        Raises
        ------
        ValueError
            If X is invalid, or ``n_neighbors`` is not between 1 and the number of shots.
        """
        check_is_fitted(self, "embedder_")
        most = len(self.embeddings_)
        if not number(Integral, 1, most)[0](n_neighbors):
            raise ValueError(
                f"n_neighbors must be an integer between 1 and {most}, the number of shots; got "
                f"{n_neighbors!r}."
            )
        embeddings = self.embed(X)
        neighbors = NearestNeighbors(n_neighbors=n_neighbors).fit(self.embeddings_)
        return neighbors.kneighbors(embeddings, return_distance=return_distance)


def check_shots(detector, shots):
    """Raise ValueError unless these are the detector's: others would explain what is not so."""
    known, given = detector.embeddings_, detector.embed(shots)
    wanted = f"shots must be the {len(known)} images of fit (and of partial_fit), in their order"
    if given.shape != known.shape:
        raise ValueError(f"{wanted}; got {len(given)} images.")
    off = np.flatnonzero(np.linalg.norm(given - known, axis=1) > FAR)
    if len(off):
        raise ValueError(
            f"{wanted}; {len(off)} of {len(given)} are other ones or have another place, "
            f"shots[{off[0]}] first."
        )
