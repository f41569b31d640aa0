"""Seconds that each stage of ``fit`` takes, to see what besides the network takes time.

A stage is a function or method of the package. Its time does not count the stages that it calls.
The images are good plates, or the normal images of a data set in the format of
``benchmarks/fewshot.py``, resized to squares:

    OMP_NUM_THREADS=1 python benchmarks/profile_fit.py --pixels 128 352 --shots 8 64
    python benchmarks/profile_fit.py --images DATA/casting.npz --max-iter 20
"""

import argparse
import importlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import wraps
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image

import skcoft
from skcoft import COFTDetector
from skcoft.datasets import make_plates

# Name of each stage, and the module and the function where it begins.
STAGES = {
    "images read and resized": ("skcoft._input.images", "Images.load"),
    "duplicates": ("skcoft._input.shots", "ShotRegistry.of"),
    "network built": ("skcoft._training.encoders", "build_encoder"),
    "fine-tuning": ("skcoft._training.encoders", "fine_tune"),
    "forward passes": ("skcoft._network.backbone", "Backbone.features_and_maps"),
    "patch embeddings": ("skcoft._network.backbone", "patch_embeddings"),
    "views and changes": ("skcoft._network.encoder", "Encoder.embed_shots"),
    "image density": ("skcoft._evidence.image_density", "ImageDensity.fit"),
    "image density, held out": ("skcoft._evidence.image_density", "score_calibration_rows"),
    "patch kernels": ("skcoft._evidence.patch_density", "choose_kernels"),
    "patch density": ("skcoft._evidence.patch_density", "PatchDensity.add_patches"),
    "patch density, held out": ("skcoft._evidence.patch_density", "score_patches"),
    "threshold": ("skcoft._model", "FittedModel.calibrate"),
}
REST = "rest"


class Stopwatch:
    """The seconds of each stage, without those of the stages inside it."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._running = [REST]
        self._since = time.perf_counter()

    def _count(self) -> None:
        now = time.perf_counter()
        self.seconds[self._running[-1]] += now - self._since
        self._since = now

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time of the block as that of a stage."""
        self._count()
        self._running.append(name)
        try:
            yield
        finally:
            self._count()
            self._running.pop()

    def wrap(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with its calls counted as a stage."""

        @wraps(function)
        def timed(*args: Any, **options: Any) -> Any:
            with self.stage(name):
                return function(*args, **options)

        return timed


def measure_stages(function: Callable[[], Any]) -> Counter[str]:
    """Call a function and return the seconds of each stage."""
    stopwatch = Stopwatch()
    with ExitStack() as patches:
        for name, (module, path) in STAGES.items():
            *owners, attribute = path.split(".")
            owner: Any = importlib.import_module(module)
            for each in owners:
                owner = getattr(owner, each)
            original = vars(owner)[attribute]
            if isinstance(original, classmethod):
                timed: Any = classmethod(stopwatch.wrap(name, original.__func__))
            else:
                timed = stopwatch.wrap(name, original)
            patches.enter_context(patch.object(owner, attribute, timed))
        with stopwatch.stage(REST):
            function()
    return stopwatch.seconds


def read_images(file: Path | None, count: int, side: int) -> np.ndarray:
    """Return ``count`` squares: plates, or the first normal images of a file."""
    if file is None:
        return make_plates(count, 0, size=side, random_state=0).images
    images = np.load(file)["normal"][:count]
    return np.stack([np.asarray(Image.fromarray(each).resize((side, side))) for each in images])


def print_table(columns: dict[str, Counter[str]]) -> None:
    """Print the seconds of each stage and its share in percent, one column for each fit."""
    print(f"{'':24s}" + "".join(f"{title:>18s}" for title in columns))
    for name in [*STAGES, REST, "fit"]:
        cells = []
        for seconds in columns.values():
            total = seconds.total()
            value = total if name == "fit" else seconds[name]
            cells.append(f"{value:10.2f} s {100 * value / total:4.0f} %")
        print(f"{name:24s}" + "".join(f"{cell:>18s}" for cell in cells))


def measure_fit(args: argparse.Namespace, side: int, count: int) -> Counter[str]:
    """Return the seconds of each stage of the fastest of several fits."""
    images = read_images(args.images, count, side)
    detector = COFTDetector(
        args.backbone,
        weights=None if args.random_weights else "pretrained",
        density=args.density,
        n_views="auto" if args.views is None else args.views,
        max_iter=args.max_iter,
        device="cpu",
        random_state=0,
    )
    fits = [measure_stages(lambda: detector.fit(images)) for _ in range(args.repeats)]
    return min(fits, key=Counter.total)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pixels", type=int, nargs="+", default=[128, 352], help="sides")
    parser.add_argument("--shots", type=int, nargs="+", default=[8, 64])
    parser.add_argument("--max-iter", type=int, default=0)
    parser.add_argument("--images", type=Path, help=".npz file with normal images")
    parser.add_argument("--backbone", default="tf_efficientnet_lite2")
    parser.add_argument("--density", default="kde", help='"kde" or "gaussian"')
    parser.add_argument("--views", type=int, help="views per shot; default: as the detector")
    parser.add_argument("--random-weights", action="store_true", help="load no weights")
    parser.add_argument("--repeats", type=int, default=1, help="the fastest fit counts")
    args = parser.parse_args(argv)
    print(f"skcoft {skcoft.__version__}, {torch.get_num_threads()} threads, {args.density}")
    measure_fit(args, min(args.pixels), 4)  # the first fit imports the networks
    columns = {
        f"{side} px, {count}": measure_fit(args, side, count)
        for side in args.pixels
        for count in args.shots
    }
    print_table(columns)


if __name__ == "__main__":
    main()
