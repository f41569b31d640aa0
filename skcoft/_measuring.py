"""From images to embeddings and scores, piece by piece."""

import warnings

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from ._input.chunks import iter_chunks
from ._input.columns import check_columns
from ._input.reader import ReadOptions, read_input
from ._input.unreadable import score_readable
from ._network.encoder import Encoder, concat_embeddings, embeddings_of, match_inputs
from ._utils.cache import cached
from ._utils.torch_context import torch_defaults

MAX_NAMED_UNREADABLE = 5  # unreadable images in a warning


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
        with torch_defaults():
            return concat_embeddings(
                [
                    cached(self.memory, Encoder.summarize, encoder, inputs, keep)["embeddings"]
                    for encoder in self.embedder_.encoders_
                ]
            )

    def score_samples(self, X):
        """Log density of each image.

        That of its embedding; with ``local``, plus the mean log density of its least likely
        hundredth of positions, shifted and scaled so that both vary alike over held-out shots,
        times the within/between ratio of the shots (see the user guide); with ``multiscale``, plus
        both at half the size, brought to the same scale, a half of each; with labelled
        anomalies, plus a
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
        if self.on_error == "nan" and self.embedder_.encoders_[0].network.input_type == "images":
            return self._score_readable(X)
        return np.concatenate([self._joint.score(self._measure(i)) for i in self._pieces(X)])

    def _pieces(self, X):
        """Yield X as validated inputs, piece by piece."""
        check_is_fitted(self, "embedder_")
        encoders = [branch.scaled for branch in self._joint.backbone_scores]
        for first, piece in iter_chunks(X):
            yield from self._read(piece, first).iter_chunks(encoders)

    def _read(self, X, first=0):
        """Return validated inputs of the kind that the fitted detector takes."""
        check_is_fitted(self, "embedder_")
        inputs = read_input(X, ReadOptions.of(self), first=first)
        check_columns(self, inputs, reset=False)
        return match_inputs(self.embedder_.encoders_, inputs)

    def _measure(self, inputs):
        """Keep of inputs what the parts of the score need."""
        methods = {key: part.summarize for key, part in self._joint.components.items()}
        with torch_defaults():
            return self._joint.summarize(inputs, methods, self.memory)

    def _score_readable(self, X):
        """Return scores, NaN for unreadable images, and warn of these."""
        scores, unreadable = score_readable(self._score_chunk, self._decode, X)
        if unreadable:
            named = unreadable[:MAX_NAMED_UNREADABLE]
            more = ", ..." if len(unreadable) > len(named) else ""
            positions = ", ".join(f"X[{image.index}]" for image in named)
            reasons = " ".join(image.reason for image in named)
            warnings.warn(
                f"{len(unreadable)} of {len(scores)} images cannot be read: {positions}{more}. "
                f"Their scores are NaN, and they count as anomalous. {reasons}",
                stacklevel=3,
            )
        return scores

    def _score_chunk(self, chunk, first):
        return self._joint.score(self._measure(self._read(chunk, first)))

    def _decode(self, image, index):
        """Read and decode ``X[index]`` as for its score; raise an error if that fails."""
        inputs = self._read(image, index)
        one_each = {encoder.modality: encoder for encoder in self.embedder_.encoders_}
        for encoder in one_each.values():
            encoder.load(inputs)(torch.zeros(1, dtype=torch.long))
