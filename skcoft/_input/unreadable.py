"""Score collections of which some images cannot be read."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .chunks import iter_chunks, iter_parts
from .errors import UnreadableImageError
from .items import is_file
from .recognize import Source, to_items
from .types import ImagesLike


@dataclass(frozen=True)
class UnreadableImage:
    """An image that cannot be read: its position in X and the reason."""

    index: int
    reason: str


def score_readable(
    score: Callable[[Source, int], np.ndarray],
    read: Callable[[Source, int], None],
    X: ImagesLike | Source,
    first: int = 0,
) -> tuple[np.ndarray, list[UnreadableImage]]:
    """Return the scores of X, NaN for unreadable images, and these images.

    Parameters
    ----------
    score : callable
        Maps a recognised chunk and the position of its first image to scores.
    read : callable
        Reads and decodes a source of one image, given its position, as ``score`` does.
    X : images
        What to score.
    first : int, default=0
        Position of the first image.

    Raises
    ------
    ValueError
        If X as a whole cannot be scored, or if no image can be read and not all are files.
    """
    scores, unreadable = [], []
    for chunk_first, chunk in iter_chunks(X):
        chunk = to_items(chunk)
        for part_first, part in iter_parts(chunk):
            part_scores, part_unreadable = _score_part(
                score, read, part, first + chunk_first + part_first
            )
            scores.append(part_scores)
            unreadable += part_unreadable
    return np.concatenate(scores), unreadable


def _score_part(
    score: Callable[[Source, int], np.ndarray],
    read: Callable[[Source, int], None],
    part: Source,
    first: int,
) -> tuple[np.ndarray, list[UnreadableImage]]:
    try:
        return score(part, first), []
    except (ValueError, OSError):
        if part.form == "table":
            raise
        unreadable = find_unreadable(part, read, first)
        rest = sorted(set(range(len(part))) - {image.index - first for image in unreadable})
        if not unreadable or not (rest or all(map(is_file, part.values))):
            raise  # not because of single images
    scores = np.full(len(part), np.nan)
    if rest:
        scores[rest] = score(part.take(rest), first)
    return scores, unreadable


def find_unreadable(
    part: Source, read: Callable[[Source, int], None], first: int
) -> list[UnreadableImage]:
    """Return the images of a chunk that ``read`` cannot read."""
    unreadable = []
    for i in range(len(part)):
        try:
            read(_one_item(part, i), first + i)
        except (UnreadableImageError, FileNotFoundError) as error:
            unreadable.append(UnreadableImage(first + i, str(error)))
    return unreadable


def _one_item(part: Source, i: int) -> Source:
    """Return one image as a source; one of an array as an item, so that messages name it."""
    if part.form in ("array", "tensor") and part.values.ndim in (3, 4):
        return Source("items", [part.values[i]])
    return part.take([i])
