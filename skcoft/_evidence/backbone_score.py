"""Components of the anomaly score. A new one is a file and a line in COMPONENTS."""

from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np

from .._network.encoder import Encoder, embeddings_of
from .._network.support import MIN_CALIBRATION_SHOTS, Support
from .._utils.cache import cached
from .image_density import ImageDensity
from .labelled import LabelledHead
from .patch_density import PatchDensity
from .prompts import TextPrompts

VIEWS = 8  # of each shot that densities are fitted on, where they are
PROBES = 4  # of each shot, where they are not, by which it is told how alike the shots are

# Each builds a part from the detector's parameters and its encoder, or returns None where it has
# nothing to say. The first one sets the scale: the others are brought to it and added.
#
# A part has
#   learn(added)     where ``needs_patches``: take in newly embedded shots, whose local
#                    embeddings are then let go
#   fit(support)     fit on the embeddings of all shots; returns self
#   keep(features)   what of a batch it needs later, a row for each image
#   score(kept)      scores of these rows, higher = more normal
#   held_out         scores of the rows ``support.is_calibration``, their shot left out
#   in_sample(support)   scores of the shots themselves
#   weight           how much it counts beside the first part, both on one scale
#   log_maps(features)   where it draws maps: (n, h, w), higher = more normal
#   low(kept), lows      where it draws maps: their least values, also of the held-out rows
COMPONENTS = {
    "image": ImageDensity.build,
    "patch": PatchDensity.build,
    "labelled": LabelledHead.build,
    "prompts": TextPrompts.build,
}


@dataclass(frozen=True)
class BackboneScore:
    """What one backbone knows of the shots, seen at one scale: the support, parts fitted on it."""

    encoder: Encoder
    scale: float
    support: Support
    components: dict
    views: dict  # how many of each shot are embedded: n_views, n_probes and whether mirrored

    @property
    def scaled(self):
        """The encoder, at the scale that images are seen at."""
        return self.encoder.at_scale(self.scale)

    @property
    def area(self):
        """Area that images are seen at, relative to their full size: how much its maps count."""
        return self.scale**2

    @classmethod
    def embed_and_fit(cls, settings, encoder, scale, shots, ids, anomalies=None, memory=None):
        """Embed shots and fit the parts that a detector's parameters ask for."""
        parts = build_components(settings, encoder)
        views = count_views(settings.n_views, encoder, len(np.unique(ids)))
        options = views, needing_patches(parts)
        scaled = encoder.at_scale(scale)
        support, learned = cached(memory, embed_and_update, scaled, shots, ids, *options)
        if "labelled" in parts:
            keep = {"embeddings": embeddings_of}
            found = cached(memory, Encoder.summarize, scaled, anomalies, keep)
            support = replace(support, anomaly_embeddings=found["embeddings"])
        return cls.fit(encoder, scale, support, parts | learned, views)

    def extend(self, settings, shots, ids):
        """Return the branch with more shots; this one stays as it is."""
        parts = build_components(settings, self.encoder)
        if set(parts) != set(self.components):
            raise ValueError(
                f"local={settings.local!r}, negatives={settings.negatives!r} and "
                f"prompts={settings.prompts!r} are not those of the fit, after which the score "
                f"joins {' and '.join(self.components)}: call fit."
            )
        options = self.views, deepcopy(needing_patches(self.components))
        first = self.support.n_images
        added, learned = embed_and_update(self.scaled, shots, ids, *options, first=first)
        support = self.support.extend(added)
        return self.fit(self.encoder, self.scale, support, parts | learned, self.views)

    @classmethod
    def fit(cls, encoder, scale, support, parts, views):
        """Fit parts on a support; those that need its patches have learned of them before."""
        fitted = {name: part.fit(support) for name, part in parts.items()}
        return cls(encoder, scale, support, fitted, views)

    def summarize(self, inputs, keep, memory=None):
        """Keep something of every input, see ``Encoder.summarize``."""
        options = keep, bool(needing_patches(self.components))
        return cached(memory, Encoder.summarize, self.scaled, inputs, *options)


def build_components(settings, encoder):
    """Build the parts that a detector's score joins: a dict from names to unfitted parts."""
    built = {name: build(settings, encoder) for name, build in COMPONENTS.items()}
    return {name: part for name, part in built.items() if part is not None}


def needing_patches(parts):
    """Return those of the parts that are fitted on local embeddings."""
    return {name: part for name, part in parts.items() if part.needs_patches}


def count_views(n_views, encoder, n_shots):
    """Return how many views of each shot are embedded, and whether mirror images are.

    ``"auto"``: photographs have plausible mirror images, but views of them are sharper or softer,
    cut or filled at the border as no photograph is, and cost accuracy. So densities are fitted on
    views only where they are few, of rows, and where the user says what a view is.
    """
    mirror, network = encoder.mirrors_are_normal, encoder.network
    if n_views != "auto":
        return {"n_views": n_views, "n_probes": 0, "mirror": mirror and n_views > 0}
    theirs = callable(encoder.augmentation) or set(encoder.augmentation or ()) - {"flip"}
    auto = network.input_type == "images" and not theirs and n_shots >= MIN_CALIBRATION_SHOTS
    counts = (0, PROBES) if auto else (VIEWS, 0)
    return {"n_views": counts[0], "n_probes": counts[1], "mirror": mirror}


def embed_and_update(encoder, shots, ids, views, learners, first=0):
    """Embed shots, their mirror images and views; let parts learn of the local embeddings.

    Returns the support, without these, and the parts ``learners``: what a search keeps on disk.
    """
    support = encoder.embed_shots(
        shots, **views, with_patches=bool(learners), ids=ids, first=first
    )
    for part in learners.values():
        part.add_patches(support)
    return support.without_patches(), learners
