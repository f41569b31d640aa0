"""The embedded backbone beside random weights, ImageNet weights and detectors on raw pixels.

Data sets and weights are those of ``fewshot.py``.

    python benchmarks/embedded.py --data DATA --weights WEIGHTS
"""

import warnings

import numpy as np
from fewshot import make_parser, mean, measure_seeds, print_head, print_line, read_tasks
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import NearestNeighbors

from skcoft import COFTDetector


class Pixels:
    """A detector on pixels: flattened images and their mirror images, values 0 to 1."""

    def __init__(self, build):
        self.build = build

    def fit(self, images):
        both = np.concatenate([images, images[:, :, ::-1]])
        self.score_rows = self.build(both.reshape(len(both), -1) / np.float32(255))
        return self

    def score_samples(self, images):
        return self.score_rows(images.reshape(len(images), -1) / np.float32(255))


def reconstruction(rows):
    pca = PCA().fit(rows)
    return lambda x: -np.linalg.norm(x - pca.inverse_transform(pca.transform(x)), axis=1)


def nearest(rows):
    index = NearestNeighbors(n_neighbors=1).fit(rows)
    return lambda x: -index.kneighbors(x)[0][:, 0]


def make_detectors(weights):
    """Return what builds each detector from a seed."""
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
        "pixels: PCA": lambda seed: Pixels(reconstruction),
        "pixels: nearest": lambda seed: Pixels(nearest),
        "pixels: forest": lambda seed: Pixels(
            lambda rows: IsolationForest(random_state=seed).fit(rows).score_samples
        ),
    }


def main(argv=None):
    parser = make_parser(__doc__)
    parser.add_argument("--detectors", help="separated by semicolons; all by default")
    args = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    tasks, detectors = read_tasks(args), make_detectors(args.weights)
    print_head(args, tasks)
    for name in args.detectors.split(";") if args.detectors else detectors:
        found = [measure_seeds(detectors[name], task, args) for task in tasks]
        seconds = mean([row for rows in found for row in rows], "fit_s")
        print_line(name, [mean(rows, "auroc") for rows in found], f"fit {seconds:.1f} s")


if __name__ == "__main__":
    main()
