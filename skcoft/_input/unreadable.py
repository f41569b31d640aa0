"""TODO."""

import numpy as np

from .chunks import iter_chunks
from .reader import as_items, is_file


def score_readable(score, read, X, first=0):
    """Scores of what can be read, NaN for the rest, and what is wrong with that, by number.

    ``score`` maps a piece of X, and how many images came before it, to scores; ``read`` takes one
    image with its number and raises where that fails. What is wrong with X as a whole is raised.
    """
    scores, faults = [], {}
    for before, piece in iter_chunks(X):
        items = as_items(piece)
        for start, part in iter_chunks(piece if items is None else iter(items)):
            found, unread = _try_to_score(score, read, part, first + before + start)
            scores.append(found)
            faults |= unread
    return np.concatenate(scores), faults


def _try_to_score(score, read, piece, first):
    """Return scores of a piece, and what is wrong with those images that are unreadable."""
    try:
        return score(piece, first), {}
    except (ValueError, OSError):
        fine, faults = readable(piece, read, first)
        if not faults or not (fine or all(map(is_file, piece))):
            raise  # not for single images' sake
    scores = np.full(len(piece), np.nan)
    if fine:
        scores[fine] = score([piece[i] for i in fine], first)
    return scores, {first + i: fault for i, fault in faults.items()}


def readable(items, read, first):
    """Return the indices of items that ``read`` can read, and what is wrong with the others.

    ``read`` takes an item and its number, counted from ``first``.
    """
    fine, faults = [], {}
    for i, item in enumerate(items):
        try:
            read(item, first + i)
        except (ValueError, OSError) as error:
            faults[i] = str(error)
        else:
            fine.append(i)
    return fine, faults
