"""From images to embeddings and scores, piece by piece."""

import warnings

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from ._encoder import Encoder, accept, embeddings_of, join_embeddings
from ._input import as_items, is_file, read_input
from ._memory import cached
from ._pieces import in_pieces, readable
from ._state import usual_torch

MOST_NAMED = 5  # unreadable images in a warning


class MeasuringMixin:
    """What a fitted detector's encoders and joint score make of images."""

    def embed(self, X):
        """Embed images by the fine-tuned network.

        Parameters
        ----------
        X : images or rows, see the user guide
            What to embed; of the kind seen in fit.

        Returns
        -------
        ndarray of shape (n_samples, d)
            L2-normalised embeddings, float64.

        Raises
        ------
        ValueError
            If X is invalid or of another kind than in fit.
        """
        check_is_fitted(self, "embedder_")
        return np.concatenate([self._embed(inputs) for inputs in self._pieces(X)])

    def _embed(self, inputs):
        keep = {"embeddings": embeddings_of}
        with usual_torch():
            return join_embeddings(
                [
                    cached(self.memory, Encoder.measure, encoder, inputs, keep)["embeddings"]
                    for encoder in self.embedder_.encoders_
                ]
            )

    def score_samples(self, X):
        """Log density of each image.

        That of its embedding; with ``local``, plus the mean log density of its least likely
        hundredth of positions, shifted and scaled so that both vary alike over held-out shots,
        times the likeness of the shots (see the user guide); with ``multiscale``, plus both at
        half the size, brought to the same scale, a half of each; with labelled anomalies, plus a
        linear head's; with ``prompts``, plus the log odds of these.

        Parameters
        ----------
        X : images or rows, see the user guide
            What to score; of the kind seen in fit. Arrays, lazy sequences and iterators are read
            in pieces of at most 1,024 images.

        Returns
        -------
        ndarray of shape (n_samples,)
            Log density in nats, float64; higher means more normal. With ``on_error="nan"``, NaN
            for images that cannot be read.

        Raises
        ------
        ValueError
            If X is invalid or of another kind than in fit.
        """
        check_is_fitted(self, "embedder_")
        if self.on_error == "nan" and self.embedder_.encoders_[0].network.kind == "images":
            return self._score_readable(X)
        return np.concatenate([self._joint.score(self._measure(i)) for i in self._pieces(X)])

    def _pieces(self, X):
        """Yield X as validated inputs, piece by piece."""
        check_is_fitted(self, "embedder_")
        encoders = [branch.scaled for branch in self._joint.branches]
        for first, piece in in_pieces(X):
            yield from self._read(piece, first).pieces(encoders)

    def _read(self, X, first=0):
        """Return validated inputs of the kind that the fitted detector takes."""
        check_is_fitted(self, "embedder_")
        inputs = read_input(self, X, reset=False, first=first)
        return accept(self.embedder_.encoders_, inputs)

    def _measure(self, inputs):
        """Keep of inputs what the parts of the score need."""
        methods = {key: part.keep for key, part in self._joint.parts.items()}
        with usual_torch():
            return self._joint.measure(inputs, methods, self.memory)

    def _score_readable(self, X):
        """Score what can be read; NaN for the rest, and a warning that names it."""
        scores, faults = score_readable(self._score_piece, self._decode, X)
        if faults:
            some = [*faults.items()][:MOST_NAMED]
            named = [fault if f"X[{i}]" in fault else f"X[{i}]: {fault}" for i, fault in some]
            more = ["..."] if len(faults) > MOST_NAMED else []
            warnings.warn(
                f"{len(faults)} of {len(scores)} images cannot be read; their scores "
                f"are NaN, and they count as anomalous. {'; '.join([*named, *more])}",
                stacklevel=3,
            )
        return scores

    def _score_piece(self, piece, first):
        return self._joint.score(self._measure(self._read(piece, first)))

    def _decode(self, item, number):
        """Read ``X[number]`` as it will be when it is scored; raise where that fails."""
        inputs = self._read([item], number)
        one_each = {encoder.modality: encoder for encoder in self.embedder_.encoders_}
        for encoder in one_each.values():
            encoder.load(inputs)(torch.zeros(1, dtype=torch.long))


def score_readable(score, read, X, first=0):
    """Scores of what can be read, NaN for the rest, and what is wrong with that, by number.

    ``score`` maps a piece of X, and how many images came before it, to scores; ``read`` takes one
    image with its number and raises where that fails. What is wrong with X as a whole is raised.
    """
    scores, faults = [], {}
    for before, piece in in_pieces(X):
        items = as_items(piece)
        for start, part in in_pieces(piece if items is None else iter(items)):
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
