"""Peak CPU memory of many large shots, and of collections that are read in chunks.

Each figure comes from a separate process. It is the peak memory minus what the process held after
all packages were loaded. A collection that is 100 times as large must not take more. The
collections are lazy sequences, whose images are made on access, and memory maps. The operating
system may keep as much of a memory map in its own cache as it likes.

    python benchmarks/bench_memory.py
"""

import argparse
import multiprocessing
import resource
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from skcoft import COFTDetector

SMALL = 32  # side of the images of collections, in pixels


def peak_memory() -> float:
    """Return the peak memory of this process so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)  # macOS counts bytes


class LazyImages:
    """A sequence of images that are made on access."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> np.ndarray:
        if not 0 <= index < self.count:
            raise IndexError(index)
        return np.random.default_rng(index).integers(0, 256, (SMALL, SMALL), dtype=np.uint8)


def fit_and_score(backbone: str, shots: int, size: int, iterations: int) -> float:
    """Fit on many large shots and score them; return the memory this took, in MiB."""
    images = np.random.default_rng(0).integers(0, 256, (shots, size, size, 3), dtype=np.uint8)
    detector = COFTDetector(
        backbone, weights=None, image_size=size, max_iter=iterations, device="cpu", random_state=0
    )
    before = peak_memory()
    detector.fit(images).score_samples(images)
    return peak_memory() - before


def score_collection(images: Any) -> float:
    """Score a collection with a small detector; return the memory this took, in MiB."""
    shots = np.stack([LazyImages(8)[i] for i in range(8)])
    detector = COFTDetector("embedded", image_size=SMALL, max_iter=0, device="cpu").fit(shots)
    before = peak_memory()
    detector.score_samples(images)
    return peak_memory() - before


def score_lazily(count: int) -> float:
    """Score ``count`` images that are made on access."""
    return score_collection(LazyImages(count))


def score_memory_map(path: Path, count: int) -> float:
    """Score ``count`` images of a file that is not read at once."""
    shape = (count, SMALL, SMALL, 3)
    return score_collection(np.memmap(path, dtype=np.uint8, mode="r", shape=shape))


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default="tf_efficientnet_lite2")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--shots", type=int, default=64)
    parser.add_argument("--iterations", type=int, default=3)
    parser.add_argument(
        "--images", type=int, default=200_000, help="number in the larger collections"
    )
    args = parser.parse_args(argv)
    spawn = multiprocessing.get_context("spawn")

    def measure(function: Callable[..., float], *arguments: Any) -> float:
        with ProcessPoolExecutor(1, mp_context=spawn) as process:
            return process.submit(function, *arguments).result()

    memory = measure(fit_and_score, args.backbone, args.shots, args.size, args.iterations)
    settings = f"{args.shots} shots of {args.size} px, {args.iterations} iterations"
    print(f"{args.backbone}, {settings}: {memory:.0f} MiB", flush=True)
    counts = args.images // 100, args.images
    for count in counts:
        print(
            f"{count:,} images made on access: {measure(score_lazily, count):.0f} MiB",
            flush=True,
        )
    with tempfile.TemporaryDirectory() as folder:
        for count in counts:
            path = Path(folder) / f"{count}"
            path.write_bytes(np.random.default_rng(0).bytes(count * SMALL * SMALL * 3))
            size = path.stat().st_size / 2**20
            memory = measure(score_memory_map, path, count)
            print(
                f"{count:,} images, a memory map of {size:.0f} MiB: {memory:.0f} MiB", flush=True
            )


if __name__ == "__main__":
    main()
