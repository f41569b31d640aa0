"""Detect a small defect in large photographs: accuracy, seconds and memory.

Photographs of 2048 x 1536 pixels are put together from normal images of 256 x 256 or 128 x 128
pixels. The defect is a square of 30 pixels, copied from the middle of the defect in an anomaly
with a mask. There are 8 shots. They are made of images that no other photograph contains. The
script prints image AUROC, the share of photographs whose anomaly map has its maximum within 32
pixels of the defect, seconds to fit and to score, and peak memory.

    python benchmarks/large.py --data DATA --sets tile256 --max-pixels 3145728
"""

import time

import numpy as np
from bench_memory import peak_memory
from fewshot import auroc, make_parser, print_line, read_tasks

from skcoft import COFTDetector

SHAPE, SIDES, DEFECT, MAX_DISTANCE = (1536, 2048), (128, 256), 30, 32


def make_photograph(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Put a photograph together from random images."""
    side = images.shape[1]
    rows, columns = (length // side for length in SHAPE)
    tiles = images[rng.integers(len(images), size=rows * columns)]
    grid = tiles.reshape(rows, columns, side, side, *images.shape[3:])
    return grid.swapaxes(1, 2).reshape(*SHAPE, *images.shape[3:]).copy()


def insert_defect(
    photo: np.ndarray, anomaly: np.ndarray, mask: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Copy a square of an anomaly into a photograph, in place; return its centre."""
    ys, xs = np.nonzero(mask)
    i = np.argmin(np.hypot(ys - ys.mean(), xs - xs.mean()))
    side = len(anomaly)
    top, left = (int(np.clip(v - DEFECT // 2, 0, side - DEFECT)) for v in (ys[i], xs[i]))
    y, x = (
        side * rng.integers(length // side) + offset
        for length, offset in zip(SHAPE, (top, left), strict=True)
    )
    square = anomaly[top : top + DEFECT, left : left + DEFECT]
    photo[y : y + DEFECT, x : x + DEFECT] = square
    return np.array([y, x]) + DEFECT / 2


def peak_position(anomaly_map: np.ndarray) -> np.ndarray:
    """Return the row and column of the map's maximum."""
    return np.array(np.unravel_index(anomaly_map.argmax(), anomaly_map.shape))


def main(argv: list[str] | None = None) -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--max-pixels", type=int, default=SHAPE[0] * SHAPE[1])
    parser.add_argument("--photographs", type=int, default=12, help="number of each kind")
    args = parser.parse_args(argv)
    for task in read_tasks(args):
        height, width = task.pool.shape[1:3]
        if height != width or width not in SIDES or not task.masks:
            continue
        rng = np.random.default_rng(0)
        shots = np.stack([make_photograph(task.pool, rng) for _ in range(args.shots)])
        normal = np.stack([make_photograph(task.normal, rng) for _ in range(args.photographs)])
        start = time.perf_counter()
        detector = COFTDetector(max_pixels=args.max_pixels, random_state=0).fit(shots)
        fit_end = time.perf_counter()
        scores = detector.score_samples(normal)
        score_end = time.perf_counter()
        for kind, masks in task.masks.items():
            defective = np.stack(
                [make_photograph(task.normal, rng) for _ in range(args.photographs)]
            )
            indices = rng.integers(len(masks), size=args.photographs)
            centers = [
                insert_defect(photo, task.anomalies[kind][i], masks[i], rng)
                for photo, i in zip(defective, indices, strict=True)
            ]
            image_auroc = auroc(scores, detector.score_samples(defective))
            distances = [
                np.hypot(*(peak_position(anomaly_map) - center))
                for anomaly_map, center in zip(
                    detector.anomaly_map(defective), centers, strict=True
                )
            ]
            memory = peak_memory() / 2**10
            print_line(
                f"{task.name}, {kind}",
                [image_auroc, 100 * float(np.mean(np.array(distances) <= MAX_DISTANCE))],
                f"fit {fit_end - start:.1f} s, score {(score_end - fit_end) / len(normal):.2f} s, "
                f"peak {memory:.2f} GiB",
            )


if __name__ == "__main__":
    main()
