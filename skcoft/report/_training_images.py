"""Check that images passed as shots are the training images of a detector."""

import numpy as np

from .._detector import COFTDetector
from .._input.types import ImagesLike

SHOT_EMBEDDING_TOL = 0.05  # distance of embeddings of one image on different devices


def check_shots(detector: COFTDetector, shots: ImagesLike) -> None:
    """Raise ValueError unless ``shots`` are the training images of the detector, in order."""
    expected, embeddings = detector.embeddings_, detector.embed(shots)
    wanted = (
        f"shots must be the {len(expected)} images of fit (and of partial_fit) that the detector "
        "keeps (shot_ids_), in their order"
    )
    if embeddings.shape != expected.shape:
        raise ValueError(f"{wanted}; got {len(embeddings)} images.")
    distances = np.linalg.norm(embeddings - expected, axis=1)
    others = np.flatnonzero(distances > SHOT_EMBEDDING_TOL)
    if len(others):
        raise ValueError(
            f"{wanted}; {len(others)} of {len(embeddings)} are other images or out of order, "
            f"shots[{others[0]}] first."
        )
