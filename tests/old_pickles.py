"""Pickles of every estimator in ``tests/data``, and their expected results.

``PYTHONPATH=. python tests/old_pickles.py`` writes those of the version that is imported. Pickles
of a release must not change after it.
"""

import gzip
import json
import pickle
import warnings

import joblib
import numpy as np
from model_files import DATA, RELEASE, ROWS
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skcoft import COFTDetector, COFTEmbedder
from skcoft.density import GaussianDensity, KernelDensity
from skcoft.model_selection import LabelFreeScorer, OneClassKFold
from skcoft.pyod import PyODDetector

NORMAL, QUERIES = ROWS[:8], ROWS[8:]


def make_detector():
    return COFTDetector(max_iter=0, random_state=0, device="cpu")


def fit_estimators():
    """Return a fitted estimator of each class, and containers with one; of tabular data."""
    search = GridSearchCV(
        make_pipeline(StandardScaler(), make_detector()),
        {"coftdetector__density": [KernelDensity(), GaussianDensity()]},
        cv=[(np.arange(6), np.arange(8))],
    )
    return {
        # the first one, so that a pickle imports no other module of the package before
        "embedder": COFTEmbedder(max_iter=2, random_state=0, device="cpu").fit(NORMAL),
        "detector": make_detector().fit(NORMAL),
        "kernel": KernelDensity("loo").fit(NORMAL),
        "gaussian": GaussianDensity().fit(NORMAL),
        "pyod": PyODDetector(make_detector()).fit(NORMAL),
        "pipeline": make_pipeline(StandardScaler(), make_detector()).fit(NORMAL),
        "search": search.fit(NORMAL, [1] * 6 + [-1] * 2),
    }


def outputs(estimator):
    """Return the scores of the queries, or the embeddings; a list of numbers."""
    for method in ("score_samples", "decision_function", "transform"):
        if hasattr(estimator, method):
            return np.ravel(getattr(estimator, method)(QUERIES)).tolist()
    raise TypeError(type(estimator))


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a grid search passes y
        estimators = fit_estimators()
        results = {name: outputs(estimator) for name, estimator in estimators.items()}
    settings = {"scorer": LabelFreeScorer(n_draws=2), "folds": OneClassKFold(4)}
    pickles = gzip.compress(pickle.dumps({**estimators, **settings}), mtime=0)
    (DATA / f"estimators-{RELEASE}.pkl.gz").write_bytes(pickles)
    joblib.dump(estimators["pipeline"], DATA / f"pipeline-{RELEASE}.joblib.gz", ("gzip", 9))
    table = {name: [float(f"{x:.7g}") for x in values] for name, values in results.items()}
    (DATA / f"estimators-{RELEASE}.json").write_text(
        json.dumps(table).replace("], ", "],\n") + "\n"
    )
