"""Parts: the kinds of evidence that a score joins. A new one is a file and a line in PARTS."""

from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np

from ._encoder import Encoder, embeddings_of
from ._labelled import LabelledHead
from ._local import LocalDensity
from ._memory import cached
from ._prompts import TextPrompts
from ._support import FEW, Support
from ._whole import WholeImage

VIEWS = 8  # of each shot that densities are fitted on, where they are
PROBES = 4  # of each shot, where they are not, by which it is told how alike the shots are

# Each builds a part from the detector's parameters and its encoder, or returns None where it has
# nothing to say. The first one sets the scale: the others are brought to it and added.
#
# A part has
#   learn(added)     where ``needs_positions``: take in newly embedded shots, whose local
#                    embeddings are then let go
#   fit(support)     fit on the embeddings of all shots; returns self
#   keep(features)   what of a batch it needs later, a row for each image
#   score(kept)      scores of these rows, higher = more normal
#   held_out         scores of the rows ``support.calibrating``, their shot left out
#   in_sample(support)   scores of the shots themselves
#   weight           how much it counts beside the first part, both on one scale
#   log_maps(features)   where it draws maps: (n, h, w), higher = more normal
#   low(kept), lows      where it draws maps: their least values, also of the held-out rows
PARTS = {
    "whole": WholeImage.build,
    "local": LocalDensity.build,
    "labelled": LabelledHead.build,
    "prompts": TextPrompts.build,
}


@dataclass(frozen=True)
class Branch:
    """What one backbone knows of the shots, seen at one scale: the support, parts fitted on it."""

    encoder: Encoder
    scale: float
    support: Support
    parts: dict
    views: dict  # how many of each shot are embedded: n_views, n_probes and whether mirrored

    @property
    def scaled(self):
        """The encoder, at the scale that images are seen at."""
        return self.encoder.at(self.scale)

    @property
    def area(self):
        """Area that images are seen at, relative to their full size: how much its maps count."""
        return self.scale**2

    @classmethod
    def grow(cls, settings, encoder, scale, shots, ids, anomalies=None, memory=None):
        """Embed shots and fit the parts that a detector's parameters ask for."""
        parts = build_parts(settings, encoder)
        views = count_views(settings.n_views, encoder, len(np.unique(ids)))
        options = views, needing_positions(parts)
        scaled = encoder.at(scale)
        support, learned = cached(memory, embed_and_learn, scaled, shots, ids, *options)
        if "labelled" in parts:
            keep = {"embeddings": embeddings_of}
            found = cached(memory, Encoder.measure, scaled, anomalies, keep)
            support = replace(support, anomalies=found["embeddings"])
        return cls.fit(encoder, scale, support, parts | learned, views)

    def extend(self, settings, shots, ids):
        """Return the branch with more shots; this one stays as it is."""
        parts = build_parts(settings, self.encoder)
        if set(parts) != set(self.parts):
            raise ValueError(
                f"local={settings.local!r}, negatives={settings.negatives!r} and "
                f"prompts={settings.prompts!r} are not those of the fit, after which the score "
                f"joins {' and '.join(self.parts)}: call fit."
            )
        options = self.views, deepcopy(needing_positions(self.parts))
        first = self.support.n_images
        added, learned = embed_and_learn(self.scaled, shots, ids, *options, first=first)
        support = self.support.extend(added)
        return self.fit(self.encoder, self.scale, support, parts | learned, self.views)

    @classmethod
    def fit(cls, encoder, scale, support, parts, views):
        """Fit parts on a support; those that need its positions have learned of them before."""
        fitted = {name: part.fit(support) for name, part in parts.items()}
        return cls(encoder, scale, support, fitted, views)

    def measure(self, inputs, keep, memory=None):
        """Keep something of every input, see ``Encoder.measure``."""
        options = keep, bool(needing_positions(self.parts))
        return cached(memory, Encoder.measure, self.scaled, inputs, *options)


def build_parts(settings, encoder):
    """Build the parts that a detector's score joins: a dict from names to unfitted parts."""
    built = {name: build(settings, encoder) for name, build in PARTS.items()}
    return {name: part for name, part in built.items() if part is not None}


def needing_positions(parts):
    """Return those of the parts that are fitted on local embeddings."""
    return {name: part for name, part in parts.items() if part.needs_positions}


def count_views(n_views, encoder, n_shots):
    """Return how many views of each shot are embedded, and whether mirror images are.

    ``"auto"``: photographs have plausible mirror images, but views of them are sharper or softer,
    cut or filled at the border as no photograph is, and cost accuracy. So densities are fitted on
    views only where they are few, of rows, and where the user says what a view is.
    """
    if n_views != "auto":
        return {"n_views": n_views, "n_probes": 0, "mirror": encoder.mirrors and n_views > 0}
    theirs = callable(encoder.augmentation) or set(encoder.augmentation or ()) - {"flip"}
    auto = encoder.network.kind == "images" and not theirs and n_shots >= FEW
    counts = (0, PROBES) if auto else (VIEWS, 0)
    return {"n_views": counts[0], "n_probes": counts[1], "mirror": encoder.mirrors}


def embed_and_learn(encoder, shots, ids, views, learners, first=0):
    """Embed shots, their mirror images and views; let parts learn of the local embeddings.

    Returns the support, without these, and the parts ``learners``: what a search keeps on disk.
    """
    support = encoder.embed_shots(
        shots, **views, with_positions=bool(learners), ids=ids, first=first
    )
    for part in learners.values():
        part.learn(support)
    return support.without_positions(), learners
