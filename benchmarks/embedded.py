"""Compare the embedded backbone with random weights, ImageNet weights and detectors on raw pixels.

``fewshot.py`` documents the data sets and weights.

    python benchmarks/embedded.py --data DATA --weights WEIGHTS
"""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Self

import numpy as np
from fewshot import (
    Detector,
    make_parser,
    mean,
    measure_seeds,
    print_header,
    print_line,
    read_tasks,
)
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import NearestNeighbors

from skcoft import COFTDetector

ScoreFunction = Callable[[np.ndarray], np.ndarray]


class PixelDetector:
    """A detector on raw pixels: flattened images and their mirror images, values 0 to 1.

    ``fit_scorer`` takes the training pixels and returns a function that scores others.
    """

    def __init__(self, fit_scorer: Callable[[np.ndarray], ScoreFunction]) -> None:
        self.fit_scorer = fit_scorer

    def fit(self, images: np.ndarray) -> Self:
        with_mirrors = np.concatenate([images, images[:, :, ::-1]])
        self.score_pixels = self.fit_scorer(
            with_mirrors.reshape(len(with_mirrors), -1) / np.float32(255)
        )
        return self

    def score_samples(self, images: np.ndarray) -> np.ndarray:
        return self.score_pixels(images.reshape(len(images), -1) / np.float32(255))


def pca_reconstruction(pixels: np.ndarray) -> ScoreFunction:
    pca = PCA().fit(pixels)
    return lambda x: -np.linalg.norm(x - pca.inverse_transform(pca.transform(x)), axis=1)


def nearest_neighbor(pixels: np.ndarray) -> ScoreFunction:
    index = NearestNeighbors(n_neighbors=1).fit(pixels)
    return lambda x: -index.kneighbors(x)[0][:, 0]


def make_detectors(weights: Path) -> dict[str, Callable[[int], Detector]]:
    """Return, by name, functions that build a detector from a seed."""
    imagenet = weights / "mobilenetv2_100.safetensors"
    return {
        "embedded": lambda seed: COFTDetector("embedded", random_state=seed),
        "embedded, frozen": lambda seed: COFTDetector("embedded", max_iter=0, random_state=seed),
        "embedded, whole image": lambda seed: COFTDetector(
            "embedded", local=False, max_iter=0, random_state=seed
        ),
        "random, frozen": lambda seed: COFTDetector(
            "embedded", weights=None, max_iter=0, random_state=seed
        ),
        "ImageNet MobileNetV2": lambda seed: COFTDetector(
            "mobilenetv2_100", weights=imagenet, random_state=seed
        ),
        "pixels: PCA": lambda seed: PixelDetector(pca_reconstruction),
        "pixels: nearest": lambda seed: PixelDetector(nearest_neighbor),
        "pixels: forest": lambda seed: PixelDetector(
            lambda pixels: IsolationForest(random_state=seed).fit(pixels).score_samples
        ),
    }


def main(argv: list[str] | None = None) -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--detectors", help="separated by semicolons; default: all")
    args = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    tasks, detectors = read_tasks(args), make_detectors(args.weights)
    print_header(args, tasks)
    for name in args.detectors.split(";") if args.detectors else detectors:
        task_rows = [measure_seeds(detectors[name], task, args) for task in tasks]
        fit_seconds = mean([row for rows in task_rows for row in rows], "fit_s")
        values = [mean(rows, "auroc") for rows in task_rows]
        print_line(name, values, f"fit {fit_seconds:.1f} s")


if __name__ == "__main__":
    main()
