"""Fit and call densities of any class: those of this package, of scikit-learn and of PyOD."""

from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import has_fit_parameter


def fit_density(
    density: Any,
    embeddings: np.ndarray,
    shot_ids: np.ndarray,
    moves: np.ndarray | None = None,
) -> Any:
    """Return a clone of a density, fitted on embeddings; see :func:`fit_options`."""
    density = clone(density)
    options = fit_options(density, shot_ids, moves)
    try:
        density.fit(embeddings, **options)
    except ValueError as error:  # for example, more neighbours than rows
        raise ValueError(
            f"density={density!r} cannot be fitted on {len(embeddings)} embeddings (of "
            f"{len(np.unique(shot_ids))} shots): {error}"
        ) from error
    if not (is_pyod_detector(density) or hasattr(density, "score_samples")):
        raise ValueError(
            f"density={density!r} has decision_function, but neither score_samples nor PyOD's "
            "decision_scores_, so it is unknown whether high values are normal. Pass a density "
            "with score_samples, for which higher is more normal."
        )
    return density


def fit_options(density: Any, shot_ids: np.ndarray, moves: np.ndarray | None) -> dict[str, Any]:
    """Return shots as groups and moves by harmless changes, each if ``density.fit`` takes it."""
    options = {"groups": shot_ids, "moves": moves}
    return {key: value for key, value in options.items() if has_fit_parameter(density, key)}


def is_pyod_detector(fitted: Any) -> bool:
    """Return whether a fitted density, or the last step of a pipeline, is a PyOD detector."""
    last = fitted[-1] if isinstance(fitted, Pipeline) else fitted
    return hasattr(last, "decision_scores_")


def score_embeddings(fitted: Any, embeddings: np.ndarray) -> np.ndarray:
    """Return scores of embeddings by a fitted density; higher is more normal.

    Those of a PyOD detector are its negative scores. Some detectors, such as ECOD, use the rows
    of a call as data. These score each row in a call of its own, so that a score does not depend
    on the other rows.
    """
    if not is_pyod_detector(fitted):
        return np.asarray(fitted.score_samples(embeddings), dtype=np.float64)

    def score(rows: np.ndarray) -> np.ndarray:
        return -np.asarray(fitted.decision_function(rows), dtype=np.float64)

    try:
        scores, first = score(embeddings), score(embeddings[:1])
        if not np.allclose(scores[:1], first, rtol=1e-4):
            scores = np.concatenate([score(row[None]) for row in embeddings])
    except Exception as error:  # a detector that compares the rows of a call may raise anything
        raise ValueError(f"density={fitted!r} cannot score a single embedding: {error}") from error
    return scores
