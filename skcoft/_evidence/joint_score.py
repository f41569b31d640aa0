"""The joint score: scores of all components on one scale, added."""

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from .._network.encoder import Encoder, Features
from .._utils.cache import cached
from .backbone_score import BackboneScore, with_patches
from .component import MapComponent, ScoreComponent, has_maps
from .maps import mean_map
from .standardization import Standardization

EQUAL_EMBEDDING_TOL = 1e-6  # equal embeddings differ less, because they are of single precision

ComponentKey = tuple[int, str]  # index of the backbone score, name of the component


class JointScore:
    """Weighted sum of the scores of all components, on the scale of the first one.

    From the scores of every other component, their held-out mean is subtracted. Then they are
    multiplied so that the held-out scores of both components have the same standard deviation,
    and by the weight of the component and the scale of the images. So neither the scale of a
    component nor the number of values behind it decides its influence.

    Attributes
    ----------
    backbone_scores : list of BackboneScore
        Fitted components of each backbone and scale.
    components : dict of (int, str) to ScoreComponent
        The same components by index of the backbone score and name.
    standardizations : dict of (int, str) to Standardization
        Mean and standard deviation of the held-out scores of each component.
    means : dict of (int, str) to float
        Subtracted from the scores of each component; 0 for the first one.
    weights : dict of (int, str) to float
        Factors of the scores; 1 for the first component.
    """

    def __init__(self, backbone_scores: list[BackboneScore]) -> None:
        self.backbone_scores = backbone_scores
        self.components: dict[ComponentKey, ScoreComponent] = {
            (i, name): component
            for i, backbone_score in enumerate(backbone_scores)
            for name, component in backbone_score.components.items()
        }
        self.standardizations = {
            key: Standardization.from_held_out(component.held_out_scores)
            for key, component in self.components.items()
        }
        first, *others = self.components
        std = self.components[first].held_out_scores.std()
        self.weights, self.means = {first: 1.0}, {first: 0.0}
        for key in others:
            weight = self.components[key].weight * backbone_scores[key[0]].scale
            # if the first component's scores are all equal, there is no scale to follow
            self.weights[key] = (float(std / self.standardizations[key].std) or 1.0) * weight
            self.means[key] = self.standardizations[key].mean

    def __getstate__(self) -> dict[str, Any]:
        return {"backbone_scores": self.backbone_scores}  # the rest is derived

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def held_out_scores(self) -> np.ndarray:
        """Return joint scores of the calibration rows, each computed without its shot."""
        return self._add(
            {key: component.held_out_scores for key, component in self.components.items()}
        )

    def held_out_image_scores(self) -> np.ndarray:
        """Return the joint score of each training image, computed without its shot."""
        support = self.backbone_scores[0].support
        return self.held_out_scores()[support.is_shot[support.is_calibration]]

    def score(self, summaries: Mapping[ComponentKey, np.ndarray]) -> np.ndarray:
        """Return scores of images from the summaries of all components."""
        return self._add({key: self.components[key].score(summaries[key]) for key in summaries})

    def _add(self, scores: Mapping[ComponentKey, np.ndarray]) -> np.ndarray:
        weighted = [self.weights[key] * (scores[key] - self.means[key]) for key in scores]
        return np.asarray(sum(weighted))

    def summarize(
        self,
        inputs: Any,
        methods: Mapping[ComponentKey, Callable[[Features], np.ndarray]],
        memory: Any = None,
    ) -> dict[ComponentKey, np.ndarray]:
        """Run the networks over inputs and return the result of each component's method."""
        summaries: dict[ComponentKey, np.ndarray] = {}
        for i, backbone_score in enumerate(self.backbone_scores):
            by_name = {name: method for (index, name), method in methods.items() if index == i}
            if by_name:
                needs_patches = bool(with_patches(backbone_score.components))
                arguments = backbone_score.scaled, inputs, by_name, needs_patches
                results = cached(memory, Encoder.summarize, *arguments)
                summaries |= {(i, name): values for name, values in results.items()}
        return summaries

    def recognize(self, summaries: Mapping[ComponentKey, np.ndarray]) -> np.ndarray:
        """Return the index of the training image that each image equals; -1 for new images.

        Images are equal if their embeddings are, for all backbones and scales. Equal embeddings
        have equal means, so only training images whose mean is equal are compared. These are few,
        and the cost per image hardly depends on the number of training images.
        """
        rows, order, means = self._sorted_means
        images = [summaries[i, "image"] for i in range(len(self.backbone_scores))]
        image_means = images[0].mean(axis=1)
        first, last = (
            np.searchsorted(means, image_means + sign * EQUAL_EMBEDDING_TOL) for sign in (-1, 1)
        )
        indices = np.full(len(image_means), -1)
        for i in np.flatnonzero(first < last):
            candidates = np.sort(order[first[i] : last[i]])
            distances = [
                np.abs(score.support.embeddings[rows[candidates]] - embeddings[i]).max(axis=1)
                for score, embeddings in zip(self.backbone_scores, images, strict=True)
            ]
            is_equal = np.max(distances, axis=0) < EQUAL_EMBEDDING_TOL
            indices[i] = next(iter(candidates[is_equal]), -1)
        return indices

    @cached_property
    def _sorted_means(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows of training images, their indices by mean of the embedding, and these means."""
        support = self.backbone_scores[0].support
        rows = np.flatnonzero(support.is_shot)
        means = support.embeddings[rows].mean(axis=1)
        order = np.argsort(means, kind="stable")
        return rows, order, means[order]

    def map_components(self) -> dict[ComponentKey, MapComponent]:
        """Return the components that have anomaly maps."""
        return {
            key: component for key, component in self.components.items() if has_maps(component)
        }

    def maps(self, log_maps: Mapping[ComponentKey, Iterable[np.ndarray]]) -> list[np.ndarray]:
        """Return anomaly maps (h, w) of images from the log maps of components.

        Each map is standardised: 0 is the mean held-out score of the component, and 1 is one
        standard deviation below. The result is the weighted mean over components, on the finest of
        their grids. Weights are the areas of the images, because larger images show more exactly
        where a defect is.
        """
        standardised = [
            [self._standardise_map(key, log_map) for log_map in maps]
            for key, maps in log_maps.items()
        ]
        weights = self._map_weights(log_maps)
        return [mean_map(maps, weights) for maps in zip(*standardised, strict=True)]

    def map_maxima(self, summaries: Mapping[ComponentKey, np.ndarray]) -> np.ndarray:
        """Return an upper bound of the anomaly map of each image, from summaries.

        It is the mean of the components' maxima, and the maximum of the map if these are at the
        same location.
        """
        return self._mean_maxima(
            {
                key: component.minima(summaries[key])
                for key, component in self.map_components().items()
            }
        )

    def held_out_map_maxima(self) -> np.ndarray:
        """Return these bounds for the calibration rows, each computed without its shot."""
        return self._mean_maxima(
            {key: component.held_out_minima for key, component in self.map_components().items()}
        )

    def _mean_maxima(self, minima: Mapping[ComponentKey, np.ndarray]) -> np.ndarray:
        maxima = [self._standardise_map(key, values) for key, values in minima.items()]
        return np.average(maxima, axis=0, weights=self._map_weights(minima))

    def _standardise_map(self, key: ComponentKey, log_map: np.ndarray) -> np.ndarray:
        return -self.standardizations[key].apply(log_map)

    def _map_weights(self, keys: Iterable[ComponentKey]) -> list[float]:
        return [self.backbone_scores[i].area for i, _ in keys]
