"""The joint score: parts of all branches brought to one scale by held-out shots, and added."""

import numpy as np

from .maps import _mean_map
from .standardization import location_of, scale_of

SAME = 1e-6  # greatest difference of equal embeddings, which are of single precision


class JointScore:
    """The sum of the parts' scores, on the scale of the first part.

    Of each other part, the mean of its held-out scores is taken away and the rest is multiplied
    so that the held-out scores of both parts vary alike, times the part's own weight and the scale
    that images were seen at. So no part outweighs another by its scale, and none by the number of
    its numbers. ``parts`` has the fitted parts by branch and name.
    """

    def __init__(self, backbone_scores):
        self.backbone_scores = backbone_scores
        self.components = {
            (i, name): part
            for i, branch in enumerate(backbone_scores)
            for name, part in branch.components.items()
        }
        first, *others = self.components
        scale = self.components[first].held_out_scores.std()
        self.weights, self.locations = {first: 1.0}, {first: 0.0}
        for key in others:
            part = self.components[key]
            weight = part.weight * backbone_scores[key[0]].scale
            self.weights[key] = (float(scale / scale_of(part)) or 1.0) * weight
            self.locations[key] = location_of(part)

    def __getstate__(self):
        return {"backbone_scores": self.backbone_scores}  # the rest follows

    def __setstate__(self, state):
        self.__init__(**state)

    def held_out_scores(self):
        """Joint scores of the support's calibrating rows, their shot left out."""
        return self._add({key: part.held_out_scores for key, part in self.components.items()})

    def score_training(self):
        """Joint scores of the shots themselves."""
        return self._add(
            {
                (i, name): part.score_training(self.backbone_scores[i].support)
                for (i, name), part in self.components.items()
            }
        )

    def score(self, kept):
        """Score images by what the parts kept of them, an array (n, ...) each."""
        return self._add({key: self.components[key].score(rows) for key, rows in kept.items()})

    def _add(self, scores):
        return sum(
            self.weights[key] * (found - self.locations[key]) for key, found in scores.items()
        )

    def summarize(self, inputs, methods, memory=None):
        """Keep of every input what ``methods`` of parts make of it, by branch and name."""
        kept = {}
        for i, branch in enumerate(self.backbone_scores):
            keep = {name: method for (at, name), method in methods.items() if at == i}
            if keep:
                found = branch.summarize(inputs, keep, memory)
                kept |= {(i, name): values for name, values in found.items()}
        return kept

    def count_shots(self, kept):
        """Count the images that are shots, by what the first part of each branch kept of them."""
        among = [
            _are_among(kept[i, "image"], branch.support.embeddings[branch.support.is_shot])
            for i, branch in enumerate(self.backbone_scores)
        ]
        return int(np.count_nonzero(np.all(among, axis=0)))

    def map_components(self):
        """Return the parts that draw maps."""
        return {key: part for key, part in self.components.items() if hasattr(part, "log_maps")}

    def maps(self, log_maps):
        """Anomaly maps, a list of (h, w), from the parts' log densities of images.

        ``log_maps`` has for each part that draws a map (h, w) of every image. Of each part, 0 is
        the mean held-out score and 1 a standard deviation of these below; the mean over parts, on
        the finest of their grids. The larger images were seen, the more they say of where: a part
        counts by their area.
        """
        scaled = [
            [self._departure(key, seen) for seen in found] for key, found in log_maps.items()
        ]
        areas = self._areas(log_maps)
        return [_mean_map(drawn, areas) for drawn in zip(*scaled, strict=True)]

    def map_maxima(self, kept):
        """Return what no value of each image's map is above, by what the parts kept of the images.

        The mean of the parts' own greatest values: the map's, where these are at one spot.
        """
        return self._mean_peaks(
            {key: part.minima(kept[key]) for key, part in self.map_components().items()}
        )

    def held_out_map_maxima(self):
        """Peaks of the support's calibrating rows, their shot left out."""
        return self._mean_peaks(
            {key: part.held_out_minima for key, part in self.map_components().items()}
        )

    def _mean_peaks(self, lows):
        departures = [self._departure(key, low) for key, low in lows.items()]
        return np.average(departures, axis=0, weights=self._areas(lows))

    def _departure(self, key, log_densities):
        """Log densities of a part on the scale of maps."""
        part = self.components[key]
        return (location_of(part) - log_densities) / scale_of(part)

    def _areas(self, keys):
        return [self.backbone_scores[i].area for i, _ in keys]


def _are_among(embeddings, shots):
    """Whether rows equal one of others, as far as single precision tells."""
    found = np.zeros(len(embeddings), dtype=bool)
    for shot in shots:
        found |= np.abs(embeddings - shot).max(axis=1) < SAME
    return found
