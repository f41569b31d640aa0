"""Evidence of labelled anomalies: a linear head that tells the shots from them."""

import numpy as np
from sklearn.linear_model import Ridge

from .._input.labels import asks_for_labelled
from .image_density import ImageDensity, leave_shots_out

RIDGE = 0.1  # penalty, of the embeddings' total variance
DOUBT = 5  # labelled anomalies with which the head counts half as much as the first part


class LabelledHead:
    """A part, see ``_parts.py``: on whose side an embedding lies, the shots' or the anomalies'.

    The idea is that of deviation networks (Pang et al., "Explainable Deep Few-shot Anomaly
    Detection with Deviation Networks", arXiv 2108.00462): a linear head is to give labelled
    anomalies a score far below that of normal images, and what counts is the deviation from
    normal scores. The head is a ridge regression, here, from embeddings to 0 for shots and -1 for
    anomalies, both sides weighing the same; the deviation is that from held-out shots, as of all
    parts. Of kinds of anomalies that nobody has labelled it knows nothing, so that it weighs
    less than the densities, the less the fewer there are: m of them ``m / (m + DOUBT)``.

    Attributes
    ----------
    coefficients : ndarray of shape (d,)
        Of the head.
    intercept : float
        Likewise.
    held_out_scores : ndarray
        Scores of the calibrating rows by heads that have not seen their shot.
    weight : float
        How much it counts.
    """

    needs_patches = False
    summarize = staticmethod(ImageDensity.summarize)

    @classmethod
    def build(cls, settings, encoder):
        """Build the part where ``negatives`` asks for labelled anomalies of images."""
        wanted = asks_for_labelled(settings.negatives) and encoder.network.input_type == "images"
        return cls() if wanted else None

    def fit(self, support):
        """Fit the head, and others that have not seen one shot, or a tenth of them."""
        support = support.without_probes()
        normals, anomalies = support.embeddings, support.anomaly_embeddings
        self.coefficients, self.intercept = fit_head(normals, anomalies)
        count = len(np.unique(anomalies, axis=0))
        self.weight = count / (count + DOUBT)
        self.held_out_scores = self._score_held_out(normals, anomalies, support.groups)
        self.held_out_scores = self.held_out_scores[support.is_calibration]
        return self

    def _score_held_out(self, normals, anomalies, groups):
        if len(np.unique(groups)) == 1:
            return self.score(normals)
        scores = np.empty(len(normals))
        for seen, unseen in leave_shots_out(groups):
            coefficients, intercept = fit_head(normals[seen], anomalies)
            scores[unseen] = normals[unseen] @ coefficients + intercept
        return scores

    def score(self, embeddings):
        """0 where shots are, -1 where labelled anomalies are."""
        return embeddings @ self.coefficients + self.intercept

    def score_training(self, support):
        """Scores of the shots by the head that has seen them."""
        return self.score(support.embeddings[support.is_shot])


def fit_head(normals, anomalies):
    """Coefficients (d,) and intercept of a ridge regression to 0 and -1, both sides alike."""
    rows = np.concatenate([normals, anomalies])
    counts = [len(normals), len(anomalies)]
    targets = np.repeat([0.0, -1.0], counts)
    weights = np.repeat(0.5 / np.array(counts), counts)
    variance = weights @ np.square(rows - weights @ rows).sum(axis=1)
    ridge = Ridge(RIDGE * variance or 1.0).fit(rows, targets, sample_weight=weights)
    return ridge.coef_, float(ridge.intercept_)
