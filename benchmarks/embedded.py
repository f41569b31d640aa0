"""The embedded backbone beside random weights, ImageNet weights and detectors on raw pixels.

Takes tasks, shots and AUROC from the measuring script ``fewshot.py``; the folders are arguments.

    python benchmarks/embedded.py --eval EVAL --data DATA --weights WEIGHTS --seeds 3
"""

import argparse
import sys
import time
import warnings
from pathlib import Path

import numpy as np
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


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--eval", type=Path, required=True, help="folder of fewshot.py")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--shots", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--max-test", type=int)
    parser.add_argument("--detectors", help="separated by semicolons; all by default")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    sys.path.insert(0, str(args.eval))
    import fewshot

    imagenet = args.weights / "mobilenetv2_100.safetensors"
    detectors = {
        "embedded": lambda seed: COFTDetector(random_state=seed),
        "embedded, frozen": lambda seed: COFTDetector(max_iter=0, random_state=seed),
        "random, frozen": lambda seed: COFTDetector(weights=None, max_iter=0, random_state=seed),
        "random": lambda seed: COFTDetector(weights=None, random_state=seed),
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
    tasks = [
        task
        for file in sorted(args.data.glob("*.npz"))
        for task in fewshot.load_tasks(file, args.max_test)
    ]
    print(f"{args.shots} shots, {args.seeds} seeds, max_test={args.max_test}")
    print(f"{'':21s} {'mean':>5s} " + " ".join(f"{t[0].split('/')[-1][:8]:>8s}" for t in tasks))
    for name in names:
        row, seconds = [], []
        for _, pool, normal, kinds, _ in tasks:
            found = []
            for seed in range(args.seeds):
                shots = pool[np.random.default_rng(seed).permutation(len(pool))[: args.shots]]
                start = time.perf_counter()
                detector = detectors[name](seed).fit(shots)
                seconds.append(time.perf_counter() - start)
                scores = detector.score_samples(normal)
                found += [fewshot.auroc(scores, detector.score_samples(k)) for k in kinds.values()]
            row.append(np.mean(found))
        cells = " ".join(f"{value:8.1f}" for value in row)
        print(f"{name:21s} {np.mean(row):5.1f} {cells}  fit {np.mean(seconds):.1f} s", flush=True)


if __name__ == "__main__":
    main()
