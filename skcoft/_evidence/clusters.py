"""Clusters of shots, such as two products in one detector, and the scales of their scores."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist, squareform
from sklearn.metrics import silhouette_score
from sklearn.neighbors import NearestNeighbors

from .._input.shots import mean_per_shot
from .limits import lower_limit, median_and_deviation

MIN_CLUSTER_SHOTS = 4  # fewer do not show how their scores vary
MAX_CLUSTERS = 8
# Two data sets of parts have silhouettes of 0.31 or more in our measurements. A single one rarely
# has, except for solar cells (up to 0.46), whose held-out scores did not differ.
MIN_SILHOUETTE = 0.32
MIN_WIDTH_RATIO = 4  # of the scales of two clusters; widths of few shots differ by chance
MAX_COMPARED_SHOTS = 1000  # bounds memory, which grows with the square


def cluster_shots(
    embeddings: np.ndarray, shot_ids: np.ndarray, anomalous_share: float = 0
) -> np.ndarray:
    """Return the cluster of each image: shots that are far more alike than all shots are.

    The clusters are those of average linkage, for the number of clusters with the largest mean
    silhouette. If that is below ``MIN_SILHOUETTE``, there is one cluster. Clusters with fewer than
    ``MIN_CLUSTER_SHOTS`` shots join the cluster nearest to them. So do clusters with at most the
    share of the images that the user calls anomalous: these may be the anomalies.
    """
    shots = mean_per_shot(embeddings, shot_ids)
    least = max(MIN_CLUSTER_SHOTS, int(anomalous_share * len(shots)) + 1)
    if len(shots) < 2 * least:
        return np.zeros(len(shot_ids), dtype=np.int64)
    rows = np.unique(np.linspace(0, len(shots) - 1, MAX_COMPARED_SHOTS).round().astype(int))
    labels = _best_labels(shots[rows], max(MIN_CLUSTER_SHOTS, least * len(rows) // len(shots)))
    if len(rows) < len(shots):
        labels = labels[nearest(shots[rows], shots)]
    largest_first = np.argsort(-np.bincount(labels), kind="stable")
    of_shot = np.argsort(largest_first)[labels]
    return of_shot[np.unique(shot_ids, return_inverse=True)[1]]


def _best_labels(shots: np.ndarray, least: int) -> np.ndarray:
    """Return the labels of shots with the largest silhouette; 0 for all if it is too small."""
    distances = pdist(shots)
    tree, square = linkage(distances, method="average"), squareform(distances)
    best, labels = MIN_SILHOUETTE, np.zeros(len(shots), dtype=np.int64)
    for count in range(2, MAX_CLUSTERS + 1):
        candidate = _join_small(fcluster(tree, count, criterion="maxclust"), square, least)
        if candidate.max() == 0:
            continue
        silhouette = silhouette_score(square, candidate, metric="precomputed")
        if silhouette >= best:
            best, labels = silhouette, candidate
    return labels


def _join_small(labels: np.ndarray, distances: np.ndarray, least: int) -> np.ndarray:
    """Return labels from 0, with clusters of fewer than ``least`` shots dissolved.

    Their shots join the cluster of the nearest shot of a large one.
    """
    is_large = np.bincount(labels)[labels] >= least
    if not is_large.any():
        return np.zeros(len(labels), dtype=np.int64)
    to_large = distances[:, is_large].argmin(axis=1)
    joined = np.where(is_large, labels, labels[is_large][to_large])
    return np.unique(joined, return_inverse=True)[1]


def nearest(shots: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the index of the shot that is nearest to each row."""
    neighbors = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(shots)
    return neighbors.kneighbors(rows, return_distance=False)[:, 0]


@dataclass(frozen=True)
class ClusterScales:
    """Median and width of the held-out scores of each cluster.

    The width is the distance from the median to the :func:`lower_limit` of new normal images. So
    after :meth:`apply` one threshold means the same for all clusters.

    Attributes
    ----------
    medians, widths : array or tensor of shape (n_clusters,)
        Median and width of each cluster; the first one is the largest.
    """

    medians: Any
    widths: Any

    @classmethod
    def from_held_out(cls, scores: np.ndarray, labels: np.ndarray) -> "ClusterScales":
        """Compute the scales from a held-out score for each shot, and the shots' clusters."""
        by_cluster = [scores[labels == label] for label in range(labels.max() + 1)]
        medians = np.array([median_and_deviation(each)[0] for each in by_cluster])
        widths = medians - [lower_limit(each) for each in by_cluster]
        return cls(medians, np.where(widths > 0, widths, 1.0))

    @property
    def differ(self) -> bool:
        """Whether one threshold for all clusters, without rescaling, would fail for some."""
        differs_in_level = np.ptp(self.medians) > self.widths.min()
        return bool(differs_in_level or np.ptp(np.log(self.widths)) > np.log(MIN_WIDTH_RATIO))

    def apply(self, scores: Any, labels: Any) -> Any:
        """Return scores of images of some clusters on the scale of the first cluster."""
        factors, medians = self.widths[0] / self.widths, self.medians
        return medians[0] + factors[labels] * (scores - medians[labels])
