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
    """An image that cannot be read: its position in X and the error."""

    index: int
    error: Exception

    @property
    def reason(self) -> str:
        """The message of the error."""
        return str(self.error)


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
        If X as a whole cannot be scored, or if X begins with images of which none can be read
        and not all are files.
    """
    scores: list[np.ndarray] = []
    unreadable: list[UnreadableImage] = []
    n_read = 0
    for chunk_first, chunk in iter_chunks(X):
        chunk = to_items(chunk)
        for part_first, part in iter_parts(chunk):
            part_scores, part_unreadable = _score_part(
                score, read, part, first + chunk_first + part_first
            )
            n_read += len(part_scores) - len(part_unreadable)
            if part_unreadable and not n_read and not all(map(is_file, part.values)):
                raise part_unreadable[0].error  # X is of another kind
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
        if not _has_images(part):
            raise
        unreadable = find_unreadable(part, read, first)
        if not unreadable and (part.form not in ("items", "samples") or len(part) == 1):
            raise  # not because of single images
    if not unreadable:  # images that cannot be read together, such as grayscale and colour arrays
        return np.concatenate([score(part.take([i]), first + i) for i in range(len(part))]), []
    scores = np.full(len(part), np.nan)
    rest = sorted(set(range(len(part))) - {image.index - first for image in unreadable})
    if rest:
        rest_scores, _ = _score_part(score, read, part.take(rest), first)
        scores[rest] = rest_scores
    return scores, unreadable


def _has_images(part: Source) -> bool:
    """Whether a part holds images that can be read one by one."""
    if part.form in ("array", "tensor"):
        try:
            return np.ndim(part.values) >= 2
        except ValueError:  # lists of unequal lengths
            return False
    return part.form != "table"


def find_unreadable(
    part: Source, read: Callable[[Source, int], None], first: int
) -> list[UnreadableImage]:
    """Return the images of a chunk that ``read`` cannot read."""
    unreadable = []
    for i in range(len(part)):
        try:
            read(_one_item(part, i), first + i)
        except (UnreadableImageError, FileNotFoundError) as error:
            unreadable.append(UnreadableImage(first + i, error))
    return unreadable


def _one_item(part: Source, i: int) -> Source:
    """Return one image as a source; one of an array as an item, so that messages name it."""
    if part.form in ("array", "tensor") and np.ndim(part.values) in (3, 4):
        image = part.values[i]
        return Source("items", [image if part.form == "tensor" else np.asarray(image)])
    return part.take([i])
