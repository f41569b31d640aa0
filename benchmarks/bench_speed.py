"""Speed as ratios, each measured in one run on this machine and printed beside its goal.

1. ``fit`` against the bare torch loop of the same forward and backward passes.
2. ``score_samples`` against the bare forward passes of images at both their sizes, with and
   without local density; of one image alone; and of JPEG files, which two threads decode.
3. A search over 10 densities on one split, with ``memory``, against fine-tuning and fitting once,
   and against a search over one density.
4. :class:`skcoft.density.KernelDensity` against scikit-learn's, 1,000 queries, 4,000 points,
   512 dimensions.
5. ``from skcoft import COFTDetector`` against importing torch and scikit-learn, in new processes.

Both sides of a pair run in turn, several times; the median of the ratios is printed. What a change
does, a second run shows beside the first one:

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
from pathlib import Path

import numpy as np
import sklearn.neighbors
import torch
from PIL import Image
from scipy.spatial.distance import cdist
from scipy.special import logsumexp
from sklearn.model_selection import GridSearchCV

import skcoft
from skcoft import COFTDetector
from skcoft._evidence.backbone_score import N_PROBES
from skcoft._network.bn_folding import unfold
from skcoft._network.factory import build_backbone
from skcoft.datasets import make_plates

BATCH = 8  # images that the bare loops pass through the network at once
BANDWIDTHS = [0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, "scale", "loo"]


# What we aim at: ratios of at most so much, but for the last, which is at least so much.
GOALS = {
    "fit / bare loop": 1.15,
    "64 scored / forward": 1.3,
    "64 scored / forward, local": 1.3,
    "1 scored / forward": 1.5,
    "1 scored / forward, local": 1.5,
    "64 JPEG files scored / forward": 1.4,
    "search of 10 / one fit": 2,
    "import / torch and scikit-learn": 1.1,
    "scikit-learn / our KernelDensity": 1,
}


def seconds(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


class Table:
    """Ratios, printed as they come: beside the goal and what an earlier run found."""

    def __init__(self, repeats, earlier=None):
        self.repeats, self.earlier, self.found = repeats, earlier or {}, {}
        heads = f"{'ratio':>6s} {'range':>14s} {'goal':>6s} {'before':>6s}"
        print(f"{'':32s} {heads} {'ours, s':>8s} other, s")

    def compare(self, name, ours, theirs, inverse=False):
        """Run both in turn and print a line."""
        ours(), theirs()
        pairs = [(seconds(ours), seconds(theirs)) for _ in range(self.repeats)]
        ratios = [b / a if inverse else a / b for a, b in pairs]
        a, b = np.median(pairs, axis=0)
        self.found[name] = float(np.median(ratios))
        span = f"{min(ratios):.2f} to {max(ratios):.2f}"
        print(
            f"{name:32s} {self.found[name]:6.2f} {span:>14s} {GOALS.get(name, ''):>6} "
            f"{_cell(self.earlier.get(name)):>6s} {a:8.3f} {b:8.3f}",
            flush=True,
        )


def _cell(value):
    return "" if value is None else f"{value:.2f}"


def bare_fit(network, shape, n_iter, parts):
    """The same passes on the same shapes: no views, no loss terms, no bookkeeping."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-9)
    images = torch.rand(parts * 8, 3, *shape)
    for _ in range(n_iter):
        loss = torch.cat([network(part) for part in images.split(BATCH)]).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()


@torch.inference_mode()
def bare_forward(network, batches):
    for images in batches:
        for part in images.split(BATCH):
            network(part)


def compare_networks(table, detector, build, args, shots, queries):
    """Fine-tuning and scoring against the bare passes of the same network."""
    frozen = detector().set_params(max_iter=0).fit(shots)
    encoders = [branch.encoder.at(branch.scale) for branch in frozen._model.joint.backbone_scores]
    shapes = [encoder.sizing.size for encoder in encoders]
    trained = encoders[0].training_sizing.size
    print(f"scored at {shapes}, fine-tuned at {trained}")

    def at_all_sizes(count):
        return [torch.rand(count, 3, *shape) for shape in shapes]

    def bare():
        network = build()
        bare_fit(network, trained, args.iterations, parts=3)
        bare_forward(network, [torch.rand(len(shots), 3, *trained)])  # center
        bare_forward(network, at_all_sizes((2 + N_PROBES) * len(shots)))  # shots, mirror images

    table.compare("fit / bare loop", lambda: detector().fit(shots), bare)
    network = build()
    for local in (False, True):
        fitted = detector().set_params(max_iter=0, local=local).fit(shots)
        for count in (len(queries), 1):
            images, asked = at_all_sizes(count), queries[:count]
            table.compare(
                f"{count} scored / forward{', local' * local}",
                lambda fitted=fitted, asked=asked: fitted.score_samples(asked),
                lambda images=images: bare_forward(network, images),
            )

    with tempfile.TemporaryDirectory() as folder:
        files = write_photographs(Path(folder), len(queries), args.size)
        fitted.set_params(n_jobs=2)
        images = at_all_sizes(len(files))
        table.compare(
            f"{len(files)} JPEG files scored / forward",
            lambda: fitted.score_samples(files),
            lambda: bare_forward(network, images),
        )


def write_photographs(folder, count, size):
    """Write JPEG files of sound plates: decoding noise would take longer."""
    files = [folder / f"{i}.jpg" for i in range(count)]
    plates = make_plates(count, 0, size=size, random_state=0).images
    for file, plate in zip(files, plates, strict=True):
        Image.fromarray(plate).save(file, quality=90)
    return files


def compare_searches(table, detector, shots, queries):
    """A search over densities on one split against a single fit and a single density."""
    half = len(queries) // 2
    both, labels = np.concatenate([shots, queries]), np.repeat([1, -1], [len(shots) + half, half])
    split = [(np.arange(len(shots)), np.arange(len(shots), len(both)))]

    def search(densities):
        with tempfile.TemporaryDirectory() as memory:
            candidate = detector().set_params(memory=memory)
            grid = {"density": densities}
            GridSearchCV(candidate, grid, cv=split, refit=False).fit(both, labels)

    densities = ["gaussian", *map(skcoft.density.KernelDensity, BANDWIDTHS)]
    for name, once in (
        ("one fit", lambda: detector().fit(shots)),
        ("one density", lambda: search(["kde"])),
    ):
        table.compare(f"search of 10 / {name}", lambda: search(densities), once)


def compare_densities(table, rng):
    """Our kernel density against scikit-learn's: time, and distance from the equation."""
    support, points = rng.normal(size=(4000, 512)), rng.normal(size=(1000, 512))
    mine = skcoft.density.KernelDensity(5.0).fit(support)
    peer = sklearn.neighbors.KernelDensity(bandwidth=5.0).fit(support)
    table.compare(
        "scikit-learn / our KernelDensity",
        lambda: mine.score_samples(points),
        lambda: peer.score_samples(points),
        inverse=True,
    )
    ours, theirs = mine.score_samples(points), peer.score_samples(points)
    exact = logsumexp(-cdist(points, support, "sqeuclidean") / 50, axis=1)
    exact -= np.log(4000) + 512 * np.log(5.0) + 256 * np.log(2 * np.pi)
    print(
        f"largest relative difference of log densities: {np.abs(ours / theirs - 1).max():.1e}; "
        f"from the equation: ours {np.abs(ours / exact - 1).max():.1e}, "
        f"scikit-learn's {np.abs(theirs / exact - 1).max():.1e}"
    )


def compare_imports(table):
    """A new process that imports the detector against one that imports what it stands on."""

    def process(code):
        return lambda: subprocess.run([sys.executable, "-c", code], check=True)

    ours = process("from skcoft import COFTDetector")
    theirs = process("import sklearn.ensemble, torch")
    table.compare("import / torch and scikit-learn", ours, theirs)


def main(argv=None):
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

    def detector():
        return COFTDetector(
            args.backbone,
            weights=None,
            max_pixels=args.size**2,
            max_iter=args.iterations,
            device="cpu",
            random_state=0,
        )

    def build():
        """Build the network as timm has it, batch normalisation on its own."""
        size = (args.size, args.size)
        network = build_backbone(args.backbone, None, size, None, None, 0)[0]
        unfold(network.body, network.pairs)
        return network

    table = Table(args.repeats, args.against and json.loads(args.against.read_text()))
    compare_networks(table, detector, build, args, shots, queries)
    compare_searches(table, detector, shots, queries)
    compare_densities(table, rng)
    compare_imports(table)
    if args.json:
        args.json.write_text(json.dumps(table.found, indent=1))


if __name__ == "__main__":
    main()
