"""Does a detector that grew by ``partial_fit`` judge like one of a single ``fit``?

The same shots are passed in three ways: all to ``fit``, the first half to ``fit`` and the second
half to one ``partial_fit``, or to one ``partial_fit`` each. The backbone is frozen, because
``partial_fit`` does not train::

    python benchmarks/partial.py --data DATA --shots 16 --max-test 25
"""

import argparse
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from fewshot import make_parser, mean, measure_seeds, print_header, print_line, read_tasks

from skcoft import COFTDetector


class Grown:
    """A frozen detector whose second half of the shots comes in calls of ``partial_fit``."""

    def __init__(self, seed: int, n_calls: int | None) -> None:
        self.detector = COFTDetector(max_iter=0, random_state=seed)
        self.n_calls = n_calls  # None means as many as there are shots in the second half

    def fit(self, X: np.ndarray) -> "Grown":
        half = len(X) // 2
        if self.n_calls == 0:
            self.detector.fit(X)
            return self
        self.detector.fit(X[:half])
        for shots in np.array_split(X[half:], self.n_calls or len(X) - half):
            self.detector.partial_fit(shots)
        return self

    def score_samples(self, X: np.ndarray) -> np.ndarray:
        return self.detector.score_samples(X)

    @property
    def offset_(self) -> float:
        return self.detector.offset_


WAYS: dict[str, int | None] = {"one fit": 0, "two halves": 1, "half, then one by one": None}
FIGURES = {"AUROC": "auroc", "flagged": "flagged", "found": "found"}


def builder(n_calls: int | None) -> Callable[[int], Any]:
    return lambda seed: Grown(seed, n_calls)


def main(argv: list[str] | None = None) -> None:
    parser: argparse.ArgumentParser = make_parser(__doc__)
    args = parser.parse_args(argv)
    warnings.simplefilter("ignore")  # such as that of suspect shots
    tasks = read_tasks(args)
    print_header(args, tasks)
    for way, n_calls in WAYS.items():
        rows = [measure_seeds(builder(n_calls), task, args) for task in tasks]
        for name, key in FIGURES.items():
            print_line(f"{way}: {name}", [mean(each, key) for each in rows])


if __name__ == "__main__":
    main()
