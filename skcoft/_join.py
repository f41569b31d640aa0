"""The joint score: parts of all branches brought to one scale by held-out shots, and added."""

import numpy as np
import torch
import torch.nn.functional as F

SAME = 1e-6  # greatest difference of equal embeddings, which are of single precision


class JointScore:
    """The sum of the parts' scores, on the scale of the first part.

    Of each other part, the mean of its held-out scores is taken away and the rest is multiplied
    so that the held-out scores of both parts vary alike, times the part's own weight. So no part
    outweighs another by its scale, and none by the number of its numbers. ``parts`` has the
    fitted parts by branch and name.
    """

    def __init__(self, branches):
        self.branches = branches
        self.parts = {
            (i, name): part
            for i, branch in enumerate(branches)
            for name, part in branch.parts.items()
        }
        first, *others = self.parts
        scale = self.parts[first].held_out.std()
        self.weights, self.locations = {first: 1.0}, {first: 0.0}
        for key in others:
            part = self.parts[key]
            self.weights[key] = (float(scale / scale_of(part)) or 1.0) * part.weight
            self.locations[key] = location_of(part)

    def held_out(self):
        """Joint scores of the support's calibrating rows, their shot left out."""
        return self._add({key: part.held_out for key, part in self.parts.items()})

    def in_sample(self):
        """Joint scores of the shots and their mirror images themselves."""
        return self._add(
            {
                (i, name): part.in_sample(self.branches[i].support)
                for (i, name), part in self.parts.items()
            }
        )

    def score(self, kept):
        """Score images by what the parts kept of both sides of them.

        ``kept`` has for each part a list of arrays (n, ...): of the images and, where they
        count, of their mirror images. Returns the mean over both, (n,).
        """
        sides = zip(*kept.values(), strict=True)
        scores = [
            self._add(
                {key: self.parts[key].score(rows) for key, rows in zip(kept, side, strict=True)}
            )
            for side in sides
        ]
        return np.mean(scores, axis=0)

    def _add(self, scores):
        return sum(
            self.weights[key] * (found - self.locations[key]) for key, found in scores.items()
        )

    def measure(self, inputs, methods, memory=None):
        """Keep of every input what ``methods`` of parts make of it, by branch and name."""
        kept = {}
        for i, branch in enumerate(self.branches):
            keep = {name: method for (at, name), method in methods.items() if at == i}
            if keep:
                found = branch.measure(inputs, keep, memory)
                kept |= {(i, name): values for name, values in found.items()}
        return kept

    def count_shots(self, kept):
        """Count the images that are shots, by what the first part of each branch kept of them."""
        among = [
            _are_among(kept[i, "whole"][0], branch.support.embeddings[branch.support.own])
            for i, branch in enumerate(self.branches)
        ]
        return int(np.count_nonzero(np.all(among, axis=0)))

    def drawing(self):
        """Return the parts that draw maps."""
        return {key: part for key, part in self.parts.items() if hasattr(part, "log_maps")}

    def maps(self, log_maps):
        """Anomaly maps, a list of (h, w), from the parts' log densities of both sides of images.

        ``log_maps`` has for each part that draws a list of one or two sides, each with a map
        (h, w) for every image. Of each part, 0 is the mean held-out score and 1 a standard
        deviation of these below; the mean over parts, on the finest of their grids.
        """
        scaled = [
            [self._draw(self.parts[key], *found) for found in zip(*sides, strict=True)]
            for key, sides in log_maps.items()
        ]
        return [_mean_map(drawn) for drawn in zip(*scaled, strict=True)]

    @staticmethod
    def _draw(part, seen, mirrored=None):
        """Anomaly map of one part, from the log density of an image and of its mirror image."""
        if mirrored is not None:
            seen = (seen + mirrored[:, ::-1]) / 2
        return (location_of(part) - seen) / scale_of(part)


def _are_among(embeddings, shots):
    """Whether rows equal one of others, as far as single precision tells."""
    found = np.zeros(len(embeddings), dtype=bool)
    for shot in shots:
        found |= np.abs(embeddings - shot).max(axis=1) < SAME
    return found


def _mean_map(drawn):
    """Mean of maps (h, w) of one image, on the finest of their grids."""
    finest = max(drawn, key=np.size).shape
    return sum(enlarge(drawing, finest) for drawing in drawn) / len(drawn)


def enlarge(drawing, size):
    """Resize a map (h, w) to a size (H, W), linearly between the middles of its cells."""
    if drawing.shape == tuple(size):
        return drawing
    array = torch.from_numpy(drawing)[None, None]
    return F.interpolate(array, tuple(size), mode="bilinear")[0, 0].numpy()


def location_of(part):
    """Return the mean held-out score of a part."""
    return float(part.held_out.mean())


def scale_of(part):
    """Return the standard deviation of held-out scores; 1 where they are all the same."""
    return float(part.held_out.std()) or 1.0
