"""Speed as ratios; both sides of each are measured in one run on one machine.

1. ``fit`` against a bare torch loop with as many forward and backward passes of the whole network,
   and against a ``fit`` without fine-tuning.
2. ``score_samples`` against the bare forward passes of images at both their sizes, with and
   without the patch density (``local``); of a single image; and of JPEG files, which two threads
   decode.
3. A search over 10 densities on one split, with ``memory``, against one fine-tuning and fit, and
   against a search over one density.
4. :class:`skcoft.density.KernelDensity` against scikit-learn's: 1,000 queries, 4,000 points,
   512 dimensions.
5. ``from skcoft import COFTDetector`` against importing torch and scikit-learn, in new processes.

Both sides of a pair run in turn, several times. The script prints the median of the ratios beside
its goal. To see the effect of a change, compare a second run with the first:

    python benchmarks/bench_speed.py --json before.json
    python benchmarks/bench_speed.py --against before.json
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import sklearn.neighbors
import torch
from PIL import Image
from scipy.spatial.distance import cdist
from scipy.special import logsumexp
from sklearn.model_selection import GridSearchCV
from torch import nn

import skcoft
from skcoft import COFTDetector
from skcoft._evidence.backbone_score import N_PROBES
from skcoft._network.bn_folding import unfold
from skcoft._network.encoder import N_CHANGES
from skcoft._network.factory import build_backbone
from skcoft.datasets import make_plates

BATCH = 8  # images that the bare loops pass through the network at once
BANDWIDTHS = [0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, "scale", "loo"]


# The largest ratio we aim at; for the last one, the smallest.
GOALS = {
    "fit / bare loop": 1.15,
    "fit / frozen fit": 3,
    "64 scored / forward": 1.3,
    "64 scored / forward, local": 1.3,
    "1 scored / forward": 1.5,
    "1 scored / forward, local": 1.5,
    "64 JPEG files scored / forward": 1.4,
    "search of 10 / one fit": 2,
    "import / torch and scikit-learn": 1.1,
    "scikit-learn / our KernelDensity": 1,
}


def seconds(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


class Table:
    """Median ratios, printed beside their goals and the medians of an earlier run."""

    def __init__(self, repeats: int, earlier: dict[str, float] | None = None) -> None:
        self.repeats, self.earlier = repeats, earlier or {}
        self.medians: dict[str, float] = {}
        columns = f"{'ratio':>6s} {'range':>14s} {'goal':>6s} {'before':>6s}"
        print(f"{'':32s} {columns} {'ours, s':>8s} other, s")

    def compare(
        self,
        name: str,
        ours: Callable[[], Any],
        other: Callable[[], Any],
        inverse: bool = False,
    ) -> None:
        """Run both functions in turn and print a line."""
        ours(), other()
        times = [(seconds(ours), seconds(other)) for _ in range(self.repeats)]
        ratios = [b / a if inverse else a / b for a, b in times]
        our_median, other_median = np.median(times, axis=0)
        self.medians[name] = float(np.median(ratios))
        ratio_range = f"{min(ratios):.2f} to {max(ratios):.2f}"
        print(
            f"{name:32s} {self.medians[name]:6.2f} {ratio_range:>14s} {GOALS.get(name, ''):>6} "
            f"{_cell(self.earlier.get(name)):>6s} {our_median:8.3f} {other_median:8.3f}",
            flush=True,
        )


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def bare_fit(network: nn.Module, shape: tuple[int, int], n_iter: int, n_batches: int) -> None:
    """Run the same passes on the same shapes: no views, no loss terms, no bookkeeping."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-9)
    images = torch.rand(n_batches * 8, 3, *shape)
    for _ in range(n_iter):
        loss = torch.cat([network(batch) for batch in images.split(BATCH)]).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()


@torch.inference_mode()
def bare_forward(network: nn.Module, image_sets: list[torch.Tensor]) -> None:
    for images in image_sets:
        for batch in images.split(BATCH):
            network(batch)


def compare_networks(
    table: Table,
    make_detector: Callable[[], COFTDetector],
    build_network: Callable[[], nn.Module],
    args: argparse.Namespace,
    shots: np.ndarray,
    queries: np.ndarray,
) -> None:
    """Compare fine-tuning and scoring with the bare passes of the same network."""
    frozen = make_detector().set_params(max_iter=0).fit(shots)
    encoders = [
        score.encoder.at_scale(score.scale) for score in frozen._model.joint.backbone_scores
    ]
    shapes = [encoder.sizing.size for encoder in encoders]
    training_shape = encoders[0].training_sizing.size
    print(f"scored at {shapes}, fine-tuned at {training_shape}")

    def random_images(count: int) -> list[torch.Tensor]:
        return [torch.rand(count, 3, *shape) for shape in shapes]

    def bare_passes() -> None:
        network = build_network()
        bare_fit(network, training_shape, args.iterations, n_batches=3)
        bare_forward(network, [torch.rand(len(shots), 3, *training_shape)])  # center
        n_rounds = 2 + N_PROBES + N_CHANGES  # shots, mirror images, probes, changes
        bare_forward(network, random_images(n_rounds * len(shots)))

    table.compare("fit / bare loop", lambda: make_detector().fit(shots), bare_passes)
    table.compare(
        "fit / frozen fit",
        lambda: make_detector().fit(shots),
        lambda: make_detector().set_params(max_iter=0).fit(shots),
    )
    network = build_network()
    for local in (False, True):
        detector = make_detector().set_params(max_iter=0, local=local).fit(shots)
        for count in (len(queries), 1):
            images, X = random_images(count), queries[:count]
            table.compare(
                f"{count} scored / forward{', local' * local}",
                partial(detector.score_samples, X),
                partial(bare_forward, network, images),
            )

    with tempfile.TemporaryDirectory() as folder:
        files = write_photographs(Path(folder), len(queries), args.size)
        detector.set_params(n_jobs=2)
        images = random_images(len(files))
        table.compare(
            f"{len(files)} JPEG files scored / forward",
            lambda: detector.score_samples(files),
            lambda: bare_forward(network, images),
        )


def write_photographs(folder: Path, count: int, size: int) -> list[Path]:
    """Write JPEG files of good plates; random noise would take longer to decode."""
    files = [folder / f"{i}.jpg" for i in range(count)]
    plates = make_plates(count, 0, size=size, random_state=0).images
    for file, plate in zip(files, plates, strict=True):
        Image.fromarray(plate).save(file, quality=90)
    return files


def compare_searches(
    table: Table,
    make_detector: Callable[[], COFTDetector],
    shots: np.ndarray,
    queries: np.ndarray,
) -> None:
    """Compare a search over densities on one split with a single fit and a single density."""
    half = len(queries) // 2
    X, y = np.concatenate([shots, queries]), np.repeat([1, -1], [len(shots) + half, half])
    split = [(np.arange(len(shots)), np.arange(len(shots), len(X)))]

    def search(densities: list) -> None:
        with tempfile.TemporaryDirectory() as memory:
            candidate = make_detector().set_params(memory=memory)
            grid = {"density": densities}
            GridSearchCV(candidate, grid, cv=split, refit=False).fit(X, y)

    densities = ["gaussian", *map(skcoft.density.KernelDensity, BANDWIDTHS)]
    for name, single in (
        ("one fit", lambda: make_detector().fit(shots)),
        ("one density", lambda: search(["kde"])),
    ):
        table.compare(f"search of 10 / {name}", lambda: search(densities), single)


def compare_densities(table: Table, rng: np.random.Generator) -> None:
    """Compare our kernel density with scikit-learn's: time, and error from the equation."""
    support, queries = rng.normal(size=(4000, 512)), rng.normal(size=(1000, 512))
    our_density = skcoft.density.KernelDensity(5.0).fit(support)
    sklearn_density = sklearn.neighbors.KernelDensity(bandwidth=5.0).fit(support)
    table.compare(
        "scikit-learn / our KernelDensity",
        lambda: our_density.score_samples(queries),
        lambda: sklearn_density.score_samples(queries),
        inverse=True,
    )
    our_scores = our_density.score_samples(queries)
    sklearn_scores = sklearn_density.score_samples(queries)
    exact = logsumexp(-cdist(queries, support, "sqeuclidean") / 50, axis=1)
    exact -= np.log(4000) + 512 * np.log(5.0) + 256 * np.log(2 * np.pi)
    print(
        "largest relative difference of log densities: "
        f"{np.abs(our_scores / sklearn_scores - 1).max():.1e}; "
        f"from the equation: ours {np.abs(our_scores / exact - 1).max():.1e}, "
        f"scikit-learn's {np.abs(sklearn_scores / exact - 1).max():.1e}"
    )


def compare_imports(table: Table) -> None:
    """Compare new processes: one imports the detector, one only its main dependencies."""

    def process(code: str) -> Callable[[], Any]:
        return lambda: subprocess.run([sys.executable, "-c", code], check=True)

    detector = process("from skcoft import COFTDetector")
    dependencies = process("import sklearn.ensemble, torch")
    table.compare("import / torch and scikit-learn", detector, dependencies)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default="tf_efficientnet_lite2")
    parser.add_argument("--size", type=int, default=352)
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="file to write the ratios to")
    parser.add_argument("--against", type=Path, help="file of an earlier run")
    args = parser.parse_args(argv)
    print(
        f"skcoft {skcoft.__version__}, torch {torch.__version__}, {torch.get_num_threads()} "
        f"threads, {platform.machine()}; {args.backbone} at {args.size} px"
    )
    rng = np.random.default_rng(0)
    shots, queries = (
        rng.integers(0, 256, (n, args.size, args.size, 3), dtype=np.uint8) for n in (8, 64)
    )

    def make_detector() -> COFTDetector:
        return COFTDetector(
            args.backbone,
            weights=None,
            max_pixels=args.size**2,
            max_iter=args.iterations,
            learning_rate=2e-5,  # images of noise would not be fine-tuned at the automatic rate
            device="cpu",
            random_state=0,
        )

    def build_network() -> nn.Module:
        """Build timm's own network, with separate batch normalisation."""
        size = (args.size, args.size)
        network = build_backbone(args.backbone, None, size, None, None, 0)[0]
        unfold(network.body, network.pairs)
        return network

    table = Table(args.repeats, args.against and json.loads(args.against.read_text()))
    compare_networks(table, make_detector, build_network, args, shots, queries)
    compare_searches(table, make_detector, shots, queries)
    compare_densities(table, rng)
    compare_imports(table)
    if args.json:
        args.json.write_text(json.dumps(table.medians, indent=1))


if __name__ == "__main__":
    main()
