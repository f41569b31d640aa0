"""The embedded backbone beside random weights, ImageNet weights and detectors on raw pixels.

Takes tasks, shots and AUROC from the measuring script ``fewshot.py``; the folders are arguments.

    python benchmarks/embedded.py --eval EVAL --data DATA --weights WEIGHTS --seeds 3
"""

import time
import warnings

import numpy as np
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import NearestNeighbors
from tasks import draw_shots, load, make_parser

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


def main():
    parser = make_parser(__doc__.split("\n")[0])
    parser.add_argument("--detectors", help="separated by semicolons; all by default")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    auroc, tasks, columns = load(args)
    imagenet = args.weights / "mobilenetv2_100.safetensors"
    detectors = {
        "embedded": lambda seed: COFTDetector(random_state=seed),
        "embedded, frozen": lambda seed: COFTDetector(max_iter=0, random_state=seed),
        "embedded, whole image": lambda seed: COFTDetector(
            local=False, max_iter=0, random_state=seed
        ),
        "random, frozen": lambda seed: COFTDetector(weights=None, max_iter=0, random_state=seed),
        "ImageNet MobileNetV2": lambda seed: COFTDetector(
            "mobilenetv2_100", weights=imagenet, random_state=seed
        ),
        "pixels: PCA": lambda seed: Pixels(reconstruction),
        "pixels: nearest": lambda seed: Pixels(nearest),
        "pixels: forest": lambda seed: Pixels(
            lambda rows: IsolationForest(random_state=seed).fit(rows).score_samples
        ),
    }
    names = args.detectors.split(";") if args.detectors else list(detectors)
    print(f"{args.shots} shots, {args.seeds} seeds, max_test={args.max_test}")
    print(f"{'':21s} {'mean':>5s} {columns}")
    for name in names:
        row, seconds = [], []
        for _, pool, normal, kinds, _ in tasks:
            found = []
            for seed in range(args.seeds):
                shots = draw_shots(pool, args, seed)
                start = time.perf_counter()
                detector = detectors[name](seed).fit(shots)
                seconds.append(time.perf_counter() - start)
                scores = detector.score_samples(normal)
                found += [auroc(scores, detector.score_samples(k)) for k in kinds.values()]
            row.append(np.mean(found))
        cells = " ".join(f"{value:8.1f}" for value in row)
        print(f"{name:21s} {np.mean(row):5.1f} {cells}  fit {np.mean(seconds):.1f} s", flush=True)


if __name__ == "__main__":
    main()
