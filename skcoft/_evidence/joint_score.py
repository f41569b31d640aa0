"""The joint score: scores of all components on one scale, added."""

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from .._input.shots import mean_per_shot
from .._network.encoder import Encoder, Features, concat_embeddings, embeddings_of
from .._network.support import SHOT, Support
from .._utils.cache import cached
from .backbone_score import BackboneScore, with_patches
from .clusters import ClusterScales, cluster_shots, nearest
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

    If the shots are of several clusters, such as two products, an image belongs to the cluster of
    the nearest shot. Its score and map are brought to the scale of the first cluster, by the
    held-out scores of both clusters.

    Attributes
    ----------
    backbone_scores : list of BackboneScore
        Fitted components of each backbone and scale.
    cluster_labels : ndarray of shape (n_images,) or None
        Cluster of each training image, from 0. None if there is one cluster.
    components : dict of (int, str) to ScoreComponent
        The same components by index of the backbone score and name.
    standardizations : dict of (int, str) to Standardization
        Mean and standard deviation of the held-out scores of each component.
    means : dict of (int, str) to float
        Subtracted from the scores of each component; 0 for the first one.
    weights : dict of (int, str) to float
        Factors of the scores; 1 for the first component.
    """

    def __init__(
        self, backbone_scores: list[BackboneScore], cluster_labels: np.ndarray | None = None
    ) -> None:
        self.backbone_scores = backbone_scores
        self.cluster_labels = cluster_labels
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
        # the rest is derived
        return {
            "backbone_scores": self.backbone_scores,
            "cluster_labels": self.cluster_labels,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    @classmethod
    def with_clusters(
        cls, backbone_scores: list[BackboneScore], anomalous_share: float
    ) -> "JointScore":
        """Return the joint score with the clusters that the embeddings of the shots form.

        There is one cluster if held-out scores do not differ between clusters. Rows of a table
        are one cluster. A cluster with at most ``anomalous_share`` of the shots is none.
        """
        joint, support = cls(backbone_scores), backbone_scores[0].support
        if not backbone_scores[0].encoder.network.defaults.needs_backbone:
            return joint
        shot_ids = support.shot_ids[support.is_shot]
        labels = cluster_shots(joint.embeddings, shot_ids, anomalous_share)
        if not labels.any():
            return joint
        clustered = cls(backbone_scores, labels)
        return clustered if clustered.score_scales.differ else joint

    @property
    def embeddings(self) -> np.ndarray:
        """Embeddings of the training images at full resolution, of shape (n_images, d)."""
        supports = [score.support for score in self.backbone_scores if score.scale == 1]
        return concat_embeddings([support.embeddings[support.is_shot] for support in supports])

    @cached_property
    def score_scales(self) -> ClusterScales:
        """The scales of the joint scores of the clusters."""
        return self._scales_of(self._raw_held_out_scores())

    @cached_property
    def map_scales(self) -> ClusterScales:
        """The scales of the lowest values of the clusters' maps, before their sign is changed."""
        return self._scales_of(-self._raw_held_out_maxima())

    def by_cluster(self) -> list[np.ndarray]:
        """Return a mask of the shots (n_shots,) for each cluster."""
        if self.cluster_labels is None:
            return [np.full(self._support.n_shots, True)]
        labels = self._label_per_shot()
        return [labels == label for label in range(labels.max() + 1)]

    def per_shot(self, values: np.ndarray) -> np.ndarray:
        """Return the mean of values of the calibration rows for each shot, without its views."""
        is_shot = self._support.roles[self._support.is_calibration] == SHOT
        return mean_per_shot(values[is_shot], self._support.shot_ids[self._support.is_shot])

    def held_out_scores(self) -> np.ndarray:
        """Return joint scores of the calibration rows, each computed without its shot."""
        return self._rescale(self._raw_held_out_scores(), self._calibration_clusters())

    def held_out_image_scores(self) -> np.ndarray:
        """Return the joint score of each training image, computed without its shot."""
        support = self._support
        return self.held_out_scores()[support.is_shot[support.is_calibration]]

    def score(self, summaries: Mapping[ComponentKey, np.ndarray]) -> np.ndarray:
        """Return scores of images from the summaries of all components."""
        scores = self._add({key: self.components[key].score(summaries[key]) for key in summaries})
        return self._rescale(scores, self._assign(summaries))

    def _rescale(self, scores: np.ndarray, clusters: np.ndarray | None) -> np.ndarray:
        """Return scores of images of some clusters on one scale."""
        return scores if clusters is None else self.score_scales.apply(scores, clusters)

    def _rescale_maps(self, maps: Any, clusters: np.ndarray | None) -> Any:
        """Return maps of images of some clusters, or their maxima, on one scale."""
        if clusters is None:
            return maps
        return [
            -self.map_scales.apply(-each, cluster)
            for each, cluster in zip(maps, clusters, strict=True)
        ]

    def _assign(self, summaries: Mapping[ComponentKey, Any]) -> np.ndarray | None:
        """Return the cluster of each image, that of the nearest shot; None if there is one."""
        if self.cluster_labels is None:
            return None
        rows = concat_embeddings([summaries[key] for key in self.embedding_keys])
        return self.cluster_labels[nearest(self.embeddings, rows)]

    @property
    def embedding_keys(self) -> list[ComponentKey]:
        """Keys of the summaries that are embeddings at full resolution."""
        return [(i, "image") for i, score in enumerate(self.backbone_scores) if score.scale == 1]

    def _calibration_clusters(self) -> np.ndarray | None:
        """Return the cluster of each calibration row; None if there is one cluster."""
        if self.cluster_labels is None:
            return None
        support = self._support
        names = np.unique(support.shot_ids)
        rows = np.searchsorted(names, support.shot_ids[support.is_calibration])
        return self._label_per_shot()[rows]

    def _label_per_shot(self) -> np.ndarray:
        _, first = np.unique(self._support.shot_ids[self._support.is_shot], return_index=True)
        return np.asarray(self.cluster_labels)[first]

    def _scales_of(self, values: np.ndarray) -> ClusterScales:
        """Return the scales of values of the calibration rows."""
        return ClusterScales.from_held_out(self.per_shot(values), self._label_per_shot())

    @property
    def _support(self) -> Support:
        return self.backbone_scores[0].support

    def _raw_held_out_scores(self) -> np.ndarray:
        return self._add(
            {key: component.held_out_scores for key, component in self.components.items()}
        )

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
        support = self._support
        rows = np.flatnonzero(support.is_shot)
        means = support.embeddings[rows].mean(axis=1)
        order = np.argsort(means, kind="stable")
        return rows, order, means[order]

    def map_components(self) -> dict[ComponentKey, MapComponent]:
        """Return the components that have anomaly maps."""
        return {
            key: component for key, component in self.components.items() if has_maps(component)
        }

    def map_methods(self) -> dict[ComponentKey, Callable[[Features], np.ndarray]]:
        """Return what :meth:`summarize` computes for :meth:`maps`."""
        log_maps = {key: component.log_maps for key, component in self.map_components().items()}
        keys = [] if self.cluster_labels is None else self.embedding_keys
        return {**log_maps, **dict.fromkeys(keys, embeddings_of)}

    def maps(self, summaries: Mapping[ComponentKey, Iterable[np.ndarray]]) -> list[np.ndarray]:
        """Return anomaly maps (h, w) of images from the summaries of :meth:`map_methods`.

        Each map is standardised: 0 is the mean held-out score of the component, and 1 is one
        standard deviation below. The result is the weighted mean over components, on the finest of
        their grids. Weights are the areas of the images, because larger images show more exactly
        where a defect is.
        """
        log_maps = {key: summaries[key] for key in self.map_components()}
        standardised = [
            [self._standardise_map(key, log_map) for log_map in maps]
            for key, maps in log_maps.items()
        ]
        weights = self._map_weights(log_maps)
        maps = [mean_map(each, weights) for each in zip(*standardised, strict=True)]
        return self._rescale_maps(maps, self._assign(summaries))

    def map_maxima(self, summaries: Mapping[ComponentKey, np.ndarray]) -> np.ndarray:
        """Return an upper bound of the anomaly map of each image, from summaries.

        It is the mean of the components' maxima, and the maximum of the map if these are at the
        same location.
        """
        maxima = self._mean_maxima(
            {
                key: component.minima(summaries[key])
                for key, component in self.map_components().items()
            }
        )
        return np.asarray(self._rescale_maps(maxima, self._assign(summaries)))

    def held_out_map_maxima(self) -> np.ndarray:
        """Return these bounds for the calibration rows, each computed without its shot."""
        maxima = self._raw_held_out_maxima()
        return np.asarray(self._rescale_maps(maxima, self._calibration_clusters()))

    def _raw_held_out_maxima(self) -> np.ndarray:
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
