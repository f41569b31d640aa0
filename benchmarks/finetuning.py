"""Does fine-tuning pay? Variants of it, as differences in AUROC from the frozen backbone.

A variant changes parameters of the detector or functions of the package: the layers that are
trained, the learning rate, the number of iterations, what the batches hold. A case is a task, a
seed and a variant. A case whose automatic learning rate is 0 has the scores of the frozen
backbone, so it is not scored again.

The figures go to a file with one JSON line for each case. Cases that are in the file are not
measured again, so the command can be stopped and repeated::

    python benchmarks/finetuning.py --data DATA --max-test 25 --json finetuning.jsonl \\
        --sets cifar10,elpv_mono,magnetic_tile,mvtec_bottle,casting,elpv_mono256,ksdd,tile256

The stages are those of the default backbone: the patch density sees the output of stages 2 and 4.
"""

import argparse
import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from fewshot import LABEL, Row, Task, make_parser, measure, print_header, print_line, read_tasks
from torch import nn

from skcoft import COFTDetector
from skcoft._network import last_stages
from skcoft._network.last_stages import LastStages
from skcoft._training import encoders, loop

FROZEN = "frozen"
MAP_ITERATIONS, MAP_RATE = 100, 1e-3  # of the linear map of patches
MEMORY, ANCHORS = 4096, 512  # patches that are searched, and that are moved, in an iteration
PUSHED = 3  # next patches of other shots that are pushed beyond the margin
MARGIN = 0.1


@dataclass(frozen=True)
class Variant:
    """What a variant changes: parameters of the detector, and functions of the package."""

    parameters: dict[str, Any] = field(default_factory=dict)
    change: Callable[[], AbstractContextManager[Any]] = nullcontext


def train_after(module: str) -> AbstractContextManager[Any]:
    """Train what follows a module of the backbone; nothing is cut off for an empty name."""
    return patch.object(last_stages, "_module_of_last_map", lambda network: module or None)


def store_batches(count: int) -> AbstractContextManager[Any]:
    """Store so many batches of activations."""
    return patch.object(loop, "STORED_BATCHES", count)


def train_norms_only() -> AbstractContextManager[Any]:
    """Train only the scales and shifts of batch normalisation."""

    def norms(stages: LastStages) -> Iterator[nn.Parameter]:
        of_norms = {id(p) for norm in find_norms(stages.network) for p in norm.parameters()}
        return (p for p in stages.trained if id(p) in of_norms)

    return patch.object(LastStages, "parameters", norms)


def find_norms(network: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """Return the batch normalisations of a network."""
    return [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


@contextmanager
def train_statistics() -> Iterator[None]:
    """Let batch normalisations of the last stages use and average the statistics of batches."""
    minimize = loop.minimize

    def minimize_in_training_mode(encoder: Any, trained: LastStages, *args: Any) -> Any:
        ids = {id(p) for p in trained.parameters()}
        norms = [n for n in find_norms(trained.network) if id(n.weight) in ids]
        for norm in norms:
            norm.train()
        try:
            return minimize(encoder, trained, *args)
        finally:
            for norm in norms:
                norm.eval()

    with patch.object(loop, "minimize", minimize_in_training_mode):
        yield


@contextmanager
def more_anomalies(factor: int) -> Iterator[None]:
    """Synthesise several anomalies of each shot in a batch."""
    make_batch_sampler = loop.make_batch_sampler

    def make_sampler(*args: Any) -> Callable[[torch.Generator], Any]:
        sample = make_batch_sampler(*args)

        def sample_more(generator: torch.Generator) -> Any:
            shots, batch = sample(generator)
            others = [sample(generator)[1][2] for _ in range(factor - 1)]
            return shots, [*batch, *others]

        return sample_more

    with patch.object(loop, "make_batch_sampler", make_sampler):
        yield


@contextmanager
def map_patches() -> Iterator[None]:
    """Train a linear map of patch embeddings instead of the network, from the identity.

    Each patch is pulled to the nearest patch of another shot. The next ones are pushed away until
    they are further than the nearest by a margin (as in CFA, arXiv 2206.04325).
    """

    def fine_tune(
        encoder: Any, load: Any, shot_ids: np.ndarray, *args: Any, **options: Any
    ) -> Any:
        sampler = loop.make_batch_sampler(encoder, load, shot_ids, *args)
        generator = options["generator"]
        patches, shots = draw_patches(encoder, sampler, generator)
        encoder.network.projection = fit_map(patches, shots, generator)
        return dict.fromkeys(loop.LOSS_NAMES, np.zeros(1))

    with patch.object(encoders, "fine_tune", fine_tune):
        yield


@torch.no_grad()
def draw_patches(
    encoder: Any, sample: Callable[[torch.Generator], Any], generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return patches (n, d) of views, and the shot of each."""
    shots, batch = sample(generator)
    patches = torch.cat([encoder.network.features_and_patches(x)[1] for x in batch[:2]])
    n, h, w, d = patches.shape
    owners = torch.cat([shots, shots]).repeat_interleave(h * w)
    chosen = torch.randperm(n * h * w, generator=generator)[:MEMORY]
    return patches.reshape(-1, d)[chosen], owners[chosen]


def fit_map(
    patches: torch.Tensor, shots: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """Return the linear map (d, d)."""
    residual = torch.zeros(patches.shape[1], patches.shape[1], requires_grad=True)
    optimizer = torch.optim.AdamW([residual], lr=MAP_RATE)
    for _ in range(MAP_ITERATIONS):
        anchors = torch.randperm(len(patches), generator=generator)[:ANCHORS]
        mapped = patches + patches @ residual
        squares = torch.cdist(mapped[anchors], mapped).square()
        is_same = shots[anchors][:, None] == shots
        nearest = squares.masked_fill(is_same, np.inf).topk(1 + PUSHED, largest=False).values
        pulled, pushed = nearest[:, :1], nearest[:, 1:]
        loss = (pulled + (pulled.detach() + MARGIN - pushed).relu()).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return (torch.eye(len(residual)) + residual).detach()


WHOLE = partial(train_after, "")
VARIANTS = {
    "default": Variant(),
    "last stages, rate 1e-4": Variant({"learning_rate": 1e-4}),
    "last stages, rate 2e-5": Variant({"learning_rate": 2e-5}),
    "last stages, rate 5e-4": Variant({"learning_rate": 5e-4}),
    "whole network, rate 2e-5": Variant({"learning_rate": 2e-5}, WHOLE),
    "from stage 3, rate 2e-5": Variant({"learning_rate": 2e-5}, partial(train_after, "blocks.2")),
    "from stage 3, automatic rate": Variant({}, partial(train_after, "blocks.2")),
    "from stage 4, automatic rate": Variant({}, partial(train_after, "blocks.3")),
    "from stage 6, automatic rate": Variant({}, partial(train_after, "blocks.5")),
    "head alone, automatic rate": Variant({}, partial(train_after, "blocks")),
    "head alone, rate 5e-4": Variant({"learning_rate": 5e-4}, partial(train_after, "blocks")),
    "60 iterations": Variant({"max_iter": 60}),
    "200 iterations": Variant({"max_iter": 200}),
    "200 iterations, 40 batches": Variant({"max_iter": 200}, partial(store_batches, 40)),
    "20 batches": Variant({}, partial(store_batches, 20)),
    "scales and shifts of norms": Variant({"learning_rate": 5e-4}, train_norms_only),
    "statistics of norms": Variant({}, train_statistics),
    "no anomalies": Variant({"negatives": None}),
    "3 anomalies per shot": Variant({}, partial(more_anomalies, 3)),
    "weight 1 of anomalies": Variant({"negative_weight": 1.0}),
    "InfoNCE": Variant({"contrastive": "infonce"}),
    "linear map of patches": Variant({}, map_patches),
    "as published, as far as known": Variant(
        {"contrastive": "infonce", "density": "gaussian", "local": False, "learning_rate": 2e-5},
        WHOLE,
    ),
    "frozen, scored as published": Variant(
        {"max_iter": 0, "density": "gaussian", "local": False},
    ),
}


class UntrainedError(Exception):
    """The automatic learning rate left the backbone frozen."""


class Trained(COFTDetector):
    """A detector whose ``fit`` raises UntrainedError if it trains nothing."""

    def fit(self, X: Any, y: Any = None) -> "Trained":
        super().fit(X, y)
        if self.max_iter and not any(self.embedder_.history_):
            raise UntrainedError
        return self


def measure_variant(name: str, task: Task, n_shots: int, seed: int) -> Row | None:
    """Return the figures of a case, or None if they are those of the frozen backbone."""
    variant = Variant({"max_iter": 0}) if name == FROZEN else VARIANTS[name]

    def build(seed: int) -> COFTDetector:
        return Trained(random_state=seed, **variant.parameters)

    with variant.change():
        try:
            return measure(build, task, n_shots, seed)
        except UntrainedError:
            return None


def read_rows(file: Path) -> dict[tuple[str, str, int], Row]:
    """Return the rows of a file of figures by variant, task and seed."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    rows = [json.loads(line) for line in lines]
    return {(row["variant"], row["task"], row["seed"]): row for row in rows}


def complete(file: Path, names: list[str], tasks: list[Task], args: argparse.Namespace) -> None:
    """Measure the cases that are not in the file and append them."""
    rows = read_rows(file)
    for name in [FROZEN, *names]:
        for task in tasks:
            for seed in range(args.seeds):
                if (name, task.name, seed) in rows:
                    continue
                row = measure_variant(name, task, args.shots, seed)
                is_trained = row is not None
                row = row or rows[FROZEN, task.name, seed]
                row = {**row, "variant": name, "trained": is_trained}
                rows[name, task.name, seed] = row
                with file.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(row) + "\n")


def print_table(file: Path, names: list[str], tasks: list[Task], seeds: int) -> None:
    """Print the AUROC of the frozen backbone, and the differences from it."""
    rows = read_rows(file)

    def means(name: str) -> np.ndarray:
        cells = [[rows[name, task.name, seed]["auroc"] for seed in range(seeds)] for task in tasks]
        return np.mean(cells, axis=1)

    frozen = means(FROZEN)
    print_line(FROZEN, frozen.tolist())
    for name in names:
        cases = [rows[name, task.name, seed] for task in tasks for seed in range(seeds)]
        n_trained = sum(case["trained"] for case in cases)
        note = f"{n_trained} of {len(cases)} fits train"
        print_line(name[:LABEL], (means(name) - frozen).round(2).tolist(), note)


def main(argv: list[str] | None = None) -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, metavar="NAME")
    parser.add_argument("--json", type=Path, required=True, help="file of figures to complete")
    args = parser.parse_args(argv)
    warnings.simplefilter("ignore")  # such as that of a single shot
    tasks, names = read_tasks(args), args.variants or list(VARIANTS)
    complete(args.json, names, tasks, args)
    print_header(args, tasks)
    print_table(args.json, names, tasks, args.seeds)


if __name__ == "__main__":
    main()
