"""Parts: the kinds of evidence that a score joins. A new one is a file and a line in PARTS."""

from ._local import LocalDensity
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


def build_parts(settings, encoder):
    """Build the parts that a detector's score joins: a dict from names to unfitted parts."""
    built = {name: build(settings, encoder) for name, build in PARTS.items()}
    return {name: part for name, part in built.items() if part is not None}


def needing_positions(parts):
    """Return those of the parts that are fitted on local embeddings."""
    return {name: part for name, part in parts.items() if part.needs_positions}


def embed_and_learn(encoder, shots, n_views, mirror, learners, first=0):
    """Embed shots, their mirror images and views; let parts learn of the local embeddings.

    Returns the support, without these, and the parts ``learners``: what a search keeps on disk.
    """
    support = encoder.embed_shots(
        shots, n_views, mirror=mirror, with_positions=bool(learners), first=first
    )
    for part in learners.values():
        part.learn(support)
    return support.without_positions(), learners
