"""Parts: the kinds of evidence that a score joins. A new one is a file and a line in PARTS."""

from copy import deepcopy
from dataclasses import dataclass

from ._encoder import Encoder
from ._local import LocalDensity
from ._memory import cached
from ._support import Support
from ._whole import WholeImage

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
#   in_sample(support)   scores of the shots and mirror images themselves
#   weight           how much it counts beside the first part, both on one scale
#   log_maps(features)   where it draws maps: (n, h, w), higher = more normal
PARTS = {"whole": WholeImage.build, "local": LocalDensity.build}


@dataclass(frozen=True)
class Branch:
    """What one backbone knows of the shots: its encoder, the support, and parts fitted on it."""

    encoder: Encoder
    support: Support
    parts: dict

    @classmethod
    def grow(cls, settings, encoder, shots, ids, memory=None):
        """Embed shots and fit the parts that a detector's parameters ask for."""
        parts = build_parts(settings, encoder)
        mirror = encoder.mirrors and settings.n_views > 0
        options = settings.n_views, mirror, needing_positions(parts)
        support, learned = cached(memory, embed_and_learn, encoder, shots, ids, *options)
        return cls.fit(encoder, support, parts | learned)

    def extend(self, settings, shots, ids):
        """Return the branch with more shots; this one stays as it is."""
        options = settings.n_views, self.support.mirrored, deepcopy(needing_positions(self.parts))
        first = self.support.n_images
        added, learned = embed_and_learn(self.encoder, shots, ids, *options, first=first)
        parts = build_parts(settings, self.encoder) | learned
        return self.fit(self.encoder, self.support.extend(added), parts)

    @classmethod
    def fit(cls, encoder, support, parts):
        """Fit parts on a support; those that need its positions have learned of them before."""
        return cls(encoder, support, {name: part.fit(support) for name, part in parts.items()})

    def measure(self, inputs, keep, memory=None):
        """Keep something of every input and its mirror image, see ``Encoder.measure``."""
        with_positions = bool(needing_positions(self.parts))
        options = keep, self.support.mirrored, with_positions
        return cached(memory, Encoder.measure, self.encoder, inputs, *options)


def build_parts(settings, encoder):
    """Build the parts that a detector's score joins: a dict from names to unfitted parts."""
    built = {name: build(settings, encoder) for name, build in PARTS.items()}
    return {name: part for name, part in built.items() if part is not None}


def needing_positions(parts):
    """Return those of the parts that are fitted on local embeddings."""
    return {name: part for name, part in parts.items() if part.needs_positions}


def embed_and_learn(encoder, shots, ids, n_views, mirror, learners, first=0):
    """Embed shots, their mirror images and views; let parts learn of the local embeddings.

    Returns the support, without these, and the parts ``learners``: what a search keeps on disk.
    """
    support = encoder.embed_shots(
        shots, n_views, mirror=mirror, with_positions=bool(learners), ids=ids, first=first
    )
    for part in learners.values():
        part.learn(support)
    return support.without_positions(), learners
