"""Large photographs with a small defect: found, drawn, in how many seconds and how much memory.

Photographs of 2048 x 1536 pixels are put together from normal images of 256 x 256 or 128 x 128; a
defect is a square of 30 pixels around the middle of one in an anomaly with a mask. 8 shots, of
images that no other photograph is made of. Printed: image AUROC, the share of defects at whose
place, within 32 pixels, the map is highest, seconds to fit and to score, and peak memory.

    python benchmarks/large.py --data DATA --sets tile256 --max-pixels 3145728
"""

import time

import numpy as np
from bench_memory import peak_memory
from fewshot import auroc, make_parser, print_line, read_tasks

from skcoft import COFTDetector

SHAPE, SIDES, DEFECT, NEAR = (1536, 2048), (128, 256), 30, 32


def photograph(images, rng):
    """Put a photograph together from images at random places."""
    side = images.shape[1]
    rows, columns = (length // side for length in SHAPE)
    chosen = images[rng.integers(len(images), size=rows * columns)]
    tiled = chosen.reshape(rows, columns, side, side, *images.shape[3:])
    return tiled.swapaxes(1, 2).reshape(*SHAPE, *images.shape[3:]).copy()


def spoil(photo, anomaly, mask, rng):
    """Copy a square of an anomaly into a photograph, in place; return its middle."""
    ys, xs = np.nonzero(mask)
    i = np.argmin(np.hypot(ys - ys.mean(), xs - xs.mean()))
    side = len(anomaly)
    top, left = (int(np.clip(v - DEFECT // 2, 0, side - DEFECT)) for v in (ys[i], xs[i]))
    y, x = (side * rng.integers(n // side) + at for n, at in zip(SHAPE, (top, left), strict=True))
    square = anomaly[top : top + DEFECT, left : left + DEFECT]
    photo[y : y + DEFECT, x : x + DEFECT] = square
    return np.array([y, x]) + DEFECT / 2


def peak(drawn):
    """Where a map is highest."""
    return np.array(np.unravel_index(drawn.argmax(), drawn.shape))


def main(argv=None):
    parser = make_parser(__doc__)
    parser.add_argument("--max-pixels", type=int, default=SHAPE[0] * SHAPE[1])
    parser.add_argument("--photographs", type=int, default=12, help="of each kind")
    args = parser.parse_args(argv)
    for task in read_tasks(args):
        height, width = task.pool.shape[1:3]
        if height != width or width not in SIDES or not task.masks:
            continue
        rng = np.random.default_rng(0)
        shots = np.stack([photograph(task.pool, rng) for _ in range(args.shots)])
        normal = np.stack([photograph(task.normal, rng) for _ in range(args.photographs)])
        start = time.perf_counter()
        detector = COFTDetector(max_pixels=args.max_pixels, random_state=0).fit(shots)
        fitted = time.perf_counter()
        scores = detector.score_samples(normal)
        scored = time.perf_counter()
        for kind, masks in task.masks.items():
            spoiled = np.stack([photograph(task.normal, rng) for _ in range(args.photographs)])
            which = rng.integers(len(masks), size=args.photographs)
            places = [
                spoil(photo, task.kinds[kind][i], masks[i], rng)
                for photo, i in zip(spoiled, which, strict=True)
            ]
            area = auroc(scores, detector.score_samples(spoiled))
            away = [
                np.hypot(*(peak(drawn) - place))
                for drawn, place in zip(detector.anomaly_map(spoiled), places, strict=True)
            ]
            memory = peak_memory() / 2**10
            print_line(
                f"{task.name}, {kind}",
                [area, 100 * np.mean(np.array(away) <= NEAR)],
                f"fit {fitted - start:.1f} s, score {(scored - fitted) / len(normal):.2f} s, "
                f"peak {memory:.2f} GiB",
            )


if __name__ == "__main__":
    main()
