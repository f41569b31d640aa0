"""OneClassKFold without shuffle: the same splits in every call, as successive halving needs."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import HalvingGridSearchCV

from skcoft.model_selection import OneClassKFold

Y = np.array([1, 1, -1, 1, 1, 1, -1, 1, 1, 1, -1, 1])  # 9 normals, 3 anomalies
GROUPS = np.array([0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 4, 4])


@pytest.mark.parametrize("state", [None, 3, np.random.RandomState(0)], ids=str)
def test_without_shuffle_every_call_gives_the_same_splits(state):
    cv = OneClassKFold(3, shots=2, anomaly_size=0.5, random_state=state)
    splits = [[np.r_[pair].tolist() for pair in cv.split(Y, Y)] for _ in range(3)]
    assert splits[0] == splits[1] == splits[2]
    grouped = [[np.r_[pair].tolist() for pair in cv.split(Y, Y, GROUPS)] for _ in range(2)]
    assert grouped[0] == grouped[1]
    shuffled = OneClassKFold(3, shots=2, shuffle=True)
    assert len({str(list(shuffled.split(Y, Y))) for _ in range(4)}) > 1


def test_successive_halving_compares_candidates_on_the_same_shots():
    shots = []

    class Recorder(BaseEstimator):
        def __init__(self, width=1, n_rounds=1):
            self.width, self.n_rounds = width, n_rounds

        def fit(self, X, y=None):
            shots.append((self.n_rounds, tuple(X[:, 0])))
            return self

        def score(self, X, y=None):
            return self.width

    search = HalvingGridSearchCV(
        Recorder(), {"width": [1, 2, 3, 4, 5]}, cv=OneClassKFold(2, shots=3), factor=2,
        resource="n_rounds", max_resources=4, refit=False,
    )  # fmt: skip
    search.fit(np.arange(12)[:, None], Y)
    rounds = [{values for n, values in shots if n == number} for number in (1, 2, 4)]
    assert len(rounds[0]) == 2 and rounds[0] == rounds[1] == rounds[2]
    with pytest.raises(ValueError, match="consistent folds"):
        search.set_params(cv=OneClassKFold(2, shots=3, shuffle=True)).fit(Y[:, None], Y)
