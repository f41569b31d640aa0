"""Feed a detector one image at a time: seconds a call, size of the model file, accuracy.

The images of the pool come again and again, each time turned by another angle and with noise of
standard deviation 1, as from a camera above a belt. Test images are turned as well. After the
counts of ``--counts``, the script prints the shots kept, the CPU seconds of the last calls of
``partial_fit`` (mean, and the largest), the megabytes of the model file, image AUROC and the
shares of normal and anomalous test images that are flagged. For the counts of ``--refit``, it also
prints a line for a new detector that is fitted on all images so far::

    python benchmarks/stream.py --data DATA --sets casting --seeds 1 --refit 50 500
"""

import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from fewshot import LABEL, Task, auroc, make_parser, read_tasks
from scipy.ndimage import rotate

from skcoft import COFTDetector

LAST_CALLS = 40  # that the seconds are of


def turn(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return an image turned by a random angle, with noise."""
    turned = rotate(
        image.astype(float), rng.uniform(0, 360), reshape=False, mode="nearest", order=1
    )
    return (turned + rng.normal(size=turned.shape)).clip(0, 255).astype(np.uint8)


def turn_all(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.stack([turn(image, rng) for image in images])


def print_figures(
    label: str, detector: COFTDetector, seconds: list[float], tests: list[np.ndarray]
) -> None:
    """Print a line of the table."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        detector.save(path)
        megabytes = path.stat().st_size / 1e6
    normal, anomalous = map(detector.score_samples, tests)
    flagged = [100 * float(np.mean(s < detector.offset_)) for s in (normal, anomalous)]
    last = seconds[-LAST_CALLS:]
    times = [float(np.mean(last)), max(last)] if last else [np.nan, np.nan]
    figures = [*times, megabytes, auroc(normal, anomalous), *flagged]
    cells = " ".join(f"{figure:9.2f}" for figure in figures)
    print(f"{label:{LABEL}s} {len(detector.shot_ids_):6d} {cells}", flush=True)


def run(task: Task, counts: list[int], refits: list[int], seed: int) -> None:
    """Print the lines of a stream."""
    rng = np.random.default_rng(seed)
    anomalies = np.concatenate(list(task.anomalies.values()))
    tests = [turn_all(images, rng) for images in (task.normal, anomalies)]
    detector = COFTDetector(max_iter=0, random_state=seed)
    images = [turn(task.pool[i % len(task.pool)], rng) for i in range(min(counts))]
    detector.fit(images)
    seconds: list[float] = []
    for n in range(min(counts), max(counts) + 1):
        if n in counts:
            print_figures(f"{task.name}, {n} images", detector, seconds, tests)
        if n in refits:
            new = COFTDetector(max_iter=0, random_state=seed).fit(images)
            print_figures(f"{task.name}, a fit on {n} images", new, [], tests)
        images.append(turn(task.pool[rng.integers(len(task.pool))], rng))
        start = time.process_time()
        detector.partial_fit(images[-1:])
        seconds.append(time.process_time() - start)


def main(argv: list[str] | None = None) -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=[8, 50, 500, 2000])
    parser.add_argument("--refit", type=int, nargs="*", default=[], help="counts to fit anew at")
    args = parser.parse_args(argv)
    warnings.simplefilter("ignore")  # an image that comes again may look like a duplicate
    columns = "seconds", "largest", "MB", "AUROC", "normal %", "anomalous"
    print(f"{'':{LABEL}s}  shots {' '.join(f'{name:>9s}' for name in columns)}")
    for task in read_tasks(args):
        for seed in range(args.seeds):
            run(task, args.counts, args.refit, seed)


if __name__ == "__main__":
    main()
