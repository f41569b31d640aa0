"""Peak memory on the CPU: of many large shots, and of collections that are read piece by piece.

Each figure is of a process of its own, less what that held with all packages loaded. A collection
that is 100 times as large must not take more: images made when they are asked for, and a memory
map, of which the system may keep as much as it likes in its own cache.

    python benchmarks/bench_memory.py
"""

import argparse
import multiprocessing
import resource
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from skcoft import COFTDetector

SMALL = 32  # pixels, a side of the images of collections


def peak_memory():
    """Most memory this process has held so far, in MiB."""
    found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found / (2**20 if sys.platform == "darwin" else 2**10)  # macOS counts bytes


class Lazy:
    """A sequence of images that are made when they are asked for."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if not 0 <= index < self.count:
            raise IndexError(index)
        return np.random.default_rng(index).integers(0, 256, (SMALL, SMALL), dtype=np.uint8)


def fit_and_score(backbone, shots, size, iterations):
    """Fit many large shots and score them."""
    images = np.random.default_rng(0).integers(0, 256, (shots, size, size, 3), dtype=np.uint8)
    detector = COFTDetector(
        backbone, weights=None, image_size=size, max_iter=iterations, device="cpu", random_state=0
    )
    before = peak_memory()
    detector.fit(images).score_samples(images)
    return peak_memory() - before


def score_collection(images):
    """Score a collection by a small detector."""
    few = np.stack([Lazy(8)[i] for i in range(8)])
    detector = COFTDetector("embedded", image_size=SMALL, max_iter=0, device="cpu").fit(few)
    before = peak_memory()
    detector.score_samples(images)
    return peak_memory() - before


def score_lazily(count):
    """Score so many images that are made when they are asked for."""
    return score_collection(Lazy(count))


def score_memory_map(path, count):
    """Score so many images of a file that is not read at once."""
    shape = (count, SMALL, SMALL, 3)
    return score_collection(np.memmap(path, dtype=np.uint8, mode="r", shape=shape))


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default="tf_efficientnet_lite2")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--shots", type=int, default=64)
    parser.add_argument("--iterations", type=int, default=3)
    parser.add_argument("--images", type=int, default=200_000, help="of the larger collections")
    args = parser.parse_args(argv)
    spawn = multiprocessing.get_context("spawn")

    def measure(function, *arguments):
        with ProcessPoolExecutor(1, mp_context=spawn) as process:
            return process.submit(function, *arguments).result()

    used = measure(fit_and_score, args.backbone, args.shots, args.size, args.iterations)
    what = f"{args.shots} shots of {args.size} px, {args.iterations} iterations"
    print(f"{args.backbone}, {what}: {used:.0f} MiB", flush=True)
    counts = args.images // 100, args.images
    for count in counts:
        print(
            f"{count:,} images made as asked for: {measure(score_lazily, count):.0f} MiB",
            flush=True,
        )
    with tempfile.TemporaryDirectory() as folder:
        for count in counts:
            path = Path(folder) / f"{count}"
            path.write_bytes(np.random.default_rng(0).bytes(count * SMALL * SMALL * 3))
            size = path.stat().st_size / 2**20
            used = measure(score_memory_map, path, count)
            print(f"{count:,} images, a memory map of {size:.0f} MiB: {used:.0f} MiB", flush=True)


if __name__ == "__main__":
    main()
