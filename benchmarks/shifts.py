"""Is a harmless change of the images an anomaly? Flagged normal images and AUROC, by change.

Test images are changed after the fit: by noise, exposure, gamma, white balance, JPEG, blur, a
small shift, rotation or zoom, and by fewer pixels. The shots are not changed. For each change, the
first line is the share of normal images below the automatic threshold. The second is the share of
anomalies below it. The third is the AUROC of changed normal images against changed anomalies.
Anomalies of all kinds are pooled, at most 40. White balance is left out for grayscale images.

    python benchmarks/shifts.py --data DATA --max-test 40 --seeds 2 \\
        --sets casting,elpv_mono256,ksdd,magnetic_tile,mvtec_bottle,paper_pa_bdp01_tl
"""

import argparse
import ast
import io
import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
from fewshot import Task, auroc, draw_shots, make_parser, print_header, print_line, read_tasks
from PIL import Image
from scipy import ndimage

from skcoft import COFTDetector

ANOMALIES = 40
FIGURES = "normal flagged", "anomalies flagged", "AUROC"

# Each change takes an image (H, W) or (H, W, 3) of numbers from 0 to 255 and a random generator.
Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def add_noise(image: np.ndarray, rng: np.random.Generator, sigma: float) -> np.ndarray:
    """Add independent normal noise to every value."""
    return image + rng.normal(0, sigma, image.shape)


def multiply(image: np.ndarray, rng: np.random.Generator, factors: float | list) -> np.ndarray:
    """Multiply all values, or each channel by its own factor."""
    return image * np.asarray(factors)


def apply_gamma(image: np.ndarray, rng: np.random.Generator, gamma: float) -> np.ndarray:
    """Raise the relative brightness to a power."""
    return 255 * (image / 255) ** gamma


def compress(image: np.ndarray, rng: np.random.Generator, quality: int) -> np.ndarray:
    """Store and load the image as JPEG."""
    file = io.BytesIO()
    Image.fromarray(image.astype(np.uint8)).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file), dtype=float)


def blur(image: np.ndarray, rng: np.random.Generator, sigma: float) -> np.ndarray:
    """Blur the image by a Gaussian."""
    return ndimage.gaussian_filter(image, sigma, axes=(0, 1), mode="nearest")


def warp(
    image: np.ndarray,
    rng: np.random.Generator,
    degrees: float = 0,
    zoom: float = 1,
    shift: float = 0,
) -> np.ndarray:
    """Rotate and enlarge the image about its center, and shift it to the right."""
    angle = np.deg2rad(degrees)
    matrix = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) / zoom
    center = (np.array(image.shape[:2]) - 1) / 2
    offset = center - matrix @ (center + np.array([0, shift]))
    channels = [
        ndimage.affine_transform(channel, matrix, offset, mode="nearest")
        for channel in np.moveaxis(np.atleast_3d(image), 2, 0)
    ]
    return np.stack(channels, 2).reshape(image.shape)


def reduce(image: np.ndarray, rng: np.random.Generator, scale: float) -> np.ndarray:
    """Resize the image to a share of its size, and back."""
    height, width = image.shape[:2]
    picture = Image.fromarray(image.astype(np.uint8))
    small = picture.resize((round(scale * width), round(scale * height)), Image.Resampling.BOX)
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC), dtype=float)


WHITE_BALANCE = "red +5 %, blue -5 %"
CHANGES: dict[str, Change] = {
    "noise, sigma 1": partial(add_noise, sigma=1),
    "noise, sigma 2": partial(add_noise, sigma=2),
    "noise, sigma 4": partial(add_noise, sigma=4),
    "exposure -10 %": partial(multiply, factors=0.9),
    "exposure +10 %": partial(multiply, factors=1.1),
    "gamma 0.85": partial(apply_gamma, gamma=0.85),
    "gamma 1.15": partial(apply_gamma, gamma=1.15),
    WHITE_BALANCE: partial(multiply, factors=[1.05, 1, 0.95]),
    "JPEG, quality 60": partial(compress, quality=60),
    "blur, sigma 0.7": partial(blur, sigma=0.7),
    "shift by 3 pixels": partial(warp, shift=3),
    "rotation by 2 degrees": partial(warp, degrees=2),
    "zoom by 3 %": partial(warp, zoom=1.03),
    "3/4 of the resolution": partial(reduce, scale=3 / 4),
    "half the resolution": partial(reduce, scale=1 / 2),
}


def change_images(images: np.ndarray, change: Change) -> np.ndarray:
    """Return changed images, uint8."""
    rng = np.random.default_rng(0)
    changed = np.stack([change(image.astype(float), rng) for image in images])
    return np.clip(np.round(changed), 0, 255).astype(np.uint8)


def is_gray(task: Task) -> bool:
    """Return whether the images of a task have one channel."""
    return task.normal.ndim == 3


def changes_of(task: Task) -> dict[str, Change]:
    """Return the changes that are possible for the images of a task."""
    return {k: v for k, v in CHANGES.items() if not (is_gray(task) and k == WHITE_BALANCE)}


def pool_anomalies(task: Task) -> np.ndarray:
    """Return at most ``ANOMALIES`` anomalies, the same number of each kind."""
    per_kind = ANOMALIES // len(task.anomalies)
    return np.concatenate([images[:per_kind] for images in task.anomalies.values()])


def measure(
    detector: COFTDetector, normal: np.ndarray, anomalies: np.ndarray
) -> tuple[float, float, float]:
    """Return the ``FIGURES`` in percent."""
    scores = [detector.score_samples(images) for images in (normal, anomalies)]
    flagged = [100 * float(np.mean(each < detector.offset_)) for each in scores]
    return flagged[0], flagged[1], auroc(*scores)


def measure_task(task: Task, args: argparse.Namespace) -> dict[str, np.ndarray]:
    """Return the ``FIGURES`` for unchanged images and for each change, means over seeds."""
    sides = task.normal, pool_anomalies(task)
    changed = {"unchanged": sides}
    for name, change in changes_of(task).items():
        changed[name] = change_images(sides[0], change), change_images(sides[1], change)
    rows = []
    for seed in range(args.seeds):
        detector = COFTDetector(random_state=seed, **ast.literal_eval(args.detector))
        detector.fit(draw_shots(task, args.shots, seed))
        rows.append({name: measure(detector, *images) for name, images in changed.items()})
    return {name: np.mean([row[name] for row in rows], axis=0) for name in changed}


def main(argv: list[str] | None = None) -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--detector", default="{'max_iter': 0}", help="parameters, a Python dict")
    args = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    tasks = read_tasks(args)
    tables = [measure_task(task, args) for task in tasks]
    print_header(args, tasks)
    for name in ["unchanged", *CHANGES]:
        rows = [table.get(name, np.full(len(FIGURES), np.nan)) for table in tables]
        for figure, values in zip(FIGURES, np.transpose(rows), strict=True):
            print_line(f"{name}, {figure}", values)


if __name__ == "__main__":
    main()
