"""Train the embedded backbone on procedurally generated images.

    python -m pretraining.train --out run --seed 0

Every image belongs to a formula (see ``images.py``). ``--signal`` selects the training signal:

* ``contrast`` brings images of one formula together at both layers of the embedding, with many
  positives; new formulas are drawn all the time;
* ``classify`` predicts the formula; the number of formulas is fixed;
* ``both`` does both.

``--dense`` is the weight of a further term: predict, patch by patch, where a defect was put into
an image. ``--recolour`` is the share of photographs whose colours are changed, so that the colours
do not give the formula away. ``--init`` starts from the trunk in the file of an earlier run.

The run writes ``checkpoint.pt`` and ``curve.csv`` to ``--out``, and the same command resumes from
these. When the run stops, it writes ``backbone.safetensors``: the weights in float16, with the
projections of the embedding (see ``project.py``). ``--minutes`` stops the run early. It can be
resumed.
"""

import argparse
import csv
import os
import time
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Generator, Tensor, nn

from skcoft._network.embedded import PIXEL_MEAN, PIXEL_STD, TRUNK_ARCHITECTURE, TRUNK_OPTIONS
from skcoft.augmentation import cutpaste, noise_texture

from .images import draw_formulas, photograph, recolour, render
from .project import project, save


class Learner(nn.Module):
    """The backbone with its heads: formula, projection, defect map."""

    def __init__(self, n_formulas: int) -> None:
        super().__init__()
        # the names of these attributes are keys of checkpoint.pt
        self.body = timm.create_model(TRUNK_ARCHITECTURE, num_classes=0, **TRUNK_OPTIONS)
        width = self.body.num_features
        self.name_formula = nn.Linear(width, n_formulas)
        self.project = nn.ModuleList(projector(c) for c in TRUNK_OPTIONS["channels"][-2:])
        self.find_defect = nn.ModuleList(nn.Conv2d(c, 1, 1) for c in TRUNK_OPTIONS["channels"][1:])
        self.register_buffer("mean", torch.tensor(PIXEL_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(PIXEL_STD).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return pooled features of the last two stages and defect logits at a stride of 8."""
        maps = self.body.forward_intermediates(
            (images - self.mean) / self.std, indices=[2, 3, 4], intermediates_only=True
        )
        logits = 0
        for head, features in zip(self.find_defect, maps, strict=True):
            size = maps[0].shape[-2:]
            logits = logits + F.interpolate(head(features), size, mode="bilinear")
        return [features.mean(dim=(2, 3)) for features in maps[1:]], logits[:, 0]


def projector(width: int) -> nn.Sequential:
    """Return the layers between the features and the contrastive loss."""
    return nn.Sequential(
        nn.Linear(width, 256), nn.BatchNorm1d(256), nn.ReLU(), nn.Linear(256, 128)
    )


class Pool:
    """Rendered images of every formula, ``per_formula`` each, replaced a few at a time.

    Rendering costs about as much as a training step on the same images, so every image is used
    several times, with a new photograph each time. ``new_formulas`` replaces the formulas too.
    Their number is then unlimited, and none can be memorised.
    """

    def __init__(
        self,
        formulas: Tensor,
        per_formula: int,
        size: int,
        new_formulas: bool,
        generator: Generator,
    ) -> None:
        self.formulas, self.per_formula, self.size = formulas, per_formula, size
        self.new_formulas, self.generator = new_formulas, generator
        shape = (len(formulas), per_formula, 3, size, size)
        self.images = torch.empty(shape, dtype=torch.uint8, device=formulas.device)
        for rows in torch.arange(len(formulas), device=formulas.device).split(128):
            self.render(rows)
        self.next = 0

    def render(self, rows: Tensor) -> None:
        """Render the images of the formulas at these indices."""
        formulas = self.formulas[rows].repeat_interleave(self.per_formula, dim=0)
        images = render(formulas, self.size, self.generator)
        self.images[rows] = (images * 255).round().byte().unflatten(0, (-1, self.per_formula))

    def renew(self, count: int) -> None:
        """Replace the images of the next ``count`` formulas, in turn."""
        rows = torch.arange(self.next, self.next + count, device=self.images.device)
        rows %= len(self.formulas)
        self.next += count
        if self.new_formulas:
            self.formulas[rows] = draw_formulas(count, self.generator, self.images.device)
        self.render(rows)

    def draw(self, n_formulas: int, size: int) -> tuple[Tensor, Tensor]:
        """Return photographs (n, 3, size, size) and the indices of their formulas.

        Draws ``n_formulas`` formulas and photographs all their images in the pool twice.
        """
        device = self.images.device
        indices = torch.randperm(len(self.formulas), generator=self.generator, device=device)
        labels = indices[:n_formulas].repeat_interleave(2 * self.per_formula)
        images = self.images[indices[:n_formulas]].flatten(0, 1).repeat_interleave(2, dim=0)
        order = torch.randperm(len(labels), generator=self.generator, device=device)
        images = images[order].float() / 255
        return photograph(images, size, self.generator), labels[order]


def multi_positive_loss(z: Tensor, labels: Tensor, temperature: float = 0.1) -> Tensor:
    """Contrast with every image of the same formula as positive (Khosla et al. 2020, eq. 2)."""
    z = F.normalize(z, dim=1)
    logits = z @ z.T / temperature
    diagonal = torch.eye(len(z), dtype=torch.bool, device=z.device)
    logits = logits.masked_fill(diagonal, -torch.inf)
    positive = (labels[:, None] == labels) & ~diagonal
    log_probability = logits - logits.logsumexp(dim=1, keepdim=True)
    return -(log_probability.masked_fill(~positive, 0).sum(1) / positive.sum(1)).mean()


def add_defects(images: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """Return the images with a defect in each, and defect maps at a stride of 8, 0 to 1."""
    half = len(images) // 2
    defective = torch.cat(
        [
            cutpaste(images[:half], generator=generator),
            noise_texture(images[half:], generator=generator),
        ]
    )
    changed = ((defective - images).abs().amax(dim=1, keepdim=True) > 0.03).float()
    return defective, F.avg_pool2d(changed, 8)[:, 0]


def loss_terms(
    learner: Learner,
    images: Tensor,
    labels: Tensor,
    signal: str,
    dense: float,
    generator: Generator,
) -> dict[str, Tensor]:
    """Return the terms of the objective, by name."""
    terms, n = {}, len(images)
    if dense:
        defective, defect_maps = add_defects(images[: n // 4], generator)
        features, logits = learner(torch.cat([images, defective]))
        target = torch.cat([torch.zeros_like(logits[:n]), defect_maps])
        terms["dense"] = dense * F.binary_cross_entropy_with_logits(logits, target)
    else:
        features, _ = learner(images)
    if signal in ("classify", "both"):
        logits = learner.name_formula(features[-1][:n])
        terms["classify"] = F.cross_entropy(logits, labels, label_smoothing=0.1)
    if signal in ("contrast", "both"):
        terms["contrast"] = sum(
            multi_positive_loss(project(stage[:n]).float(), labels)
            for project, stage in zip(learner.project, features, strict=True)
        )
    return terms


def train(args: argparse.Namespace) -> Learner:
    """Train, or resume the run in ``args.out``; return the learner."""
    device = torch.device(args.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    torch.manual_seed(args.seed)
    generator = torch.Generator(device).manual_seed(args.seed)
    formulas = draw_formulas(args.formulas, generator, device)
    learner = Learner(args.formulas).to(device, memory_format=torch.channels_last)
    if args.init:
        _load_trunk(learner, args.init)
    decay = [p for p in learner.parameters() if p.ndim > 1]
    no_decay = [p for p in learner.parameters() if p.ndim <= 1]
    groups = [{"params": decay, "weight_decay": 0.05}, {"params": no_decay, "weight_decay": 0}]
    optimizer = torch.optim.AdamW(groups, lr=args.rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, args.rate, total_steps=args.steps, pct_start=0.05
    )
    args.out.mkdir(parents=True, exist_ok=True)
    checkpoint, first_step = args.out / "checkpoint.pt", 0
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device)
        learner.load_state_dict(state["learner"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        first_step = state["step"]
        generator.manual_seed(args.seed + first_step)
    start = time.perf_counter()
    pool = Pool(formulas, args.each, args.size, args.signal == "contrast", generator)
    learner.train()
    history: dict[str, list[float]] = {}
    for step in range(first_step, args.steps):
        pool.renew(args.renew)
        size = args.size if step >= args.grow_at * args.steps else args.size * 2 // 3
        images, labels = pool.draw(args.batch // (2 * args.each), size)
        images = recolour(images, args.recolour, generator)
        with torch.autocast(device.type, torch.bfloat16, enabled=args.bfloat16):
            terms = loss_terms(learner, images, labels, args.signal, args.dense, generator)
        optimizer.zero_grad()
        sum(terms.values()).backward()
        nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        for name, value in terms.items():
            history.setdefault(name, []).append(value.item())
        minutes = (time.perf_counter() - start) / 60
        last = step + 1 == args.steps or (args.minutes and minutes >= args.minutes)
        if last or (step + 1) % args.save_every == 0:
            _report(args.out / "curve.csv", step + 1, minutes, history)
            history = {}
            state = {"learner": learner.state_dict(), "optimizer": optimizer.state_dict()}
            state |= {"schedule": schedule.state_dict(), "step": step + 1}
            torch.save(state, checkpoint.with_suffix(".part"))
            os.replace(checkpoint.with_suffix(".part"), checkpoint)
        if last:
            break
    trunk = {k: v.cpu() for k, v in learner.body.state_dict().items()}
    save(project(trunk, args.seed), args.out / "backbone.safetensors")
    return learner


def _load_trunk(learner: Learner, path: Path) -> None:
    weights, prefix = load_file(path), "trunk."
    trunk = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    if not trunk:
        raise ValueError(
            f"--init {path} has no key 'trunk.*'. It must be the backbone.safetensors of an "
            "earlier run. Pass such a file."
        )
    learner.body.load_state_dict(learner.body.state_dict() | trunk)


def _report(path: Path, step: int, minutes: float, history: dict[str, list[float]]) -> None:
    """Append a row to the curve and print it."""
    row = {"step": step, "minutes": f"{minutes:.1f}"}
    row |= {name: f"{sum(values) / len(values):.4f}" for name, values in history.items()}
    is_new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, row)
        if is_new:
            writer.writeheader()
        writer.writerow(row)
    print(*(f"{k} {v}" for k, v in row.items()), flush=True)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--signal", choices=["classify", "contrast", "both"], default="contrast")
    parser.add_argument("--dense", type=float, default=0.0, help="weight of the defect map")
    parser.add_argument(
        "--recolour", type=float, default=0.8, help="share of photographs to recolour"
    )
    parser.add_argument("--init", type=Path, help="backbone.safetensors of an earlier run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=3600)
    parser.add_argument("--minutes", type=float, help="stop and save after this time")
    parser.add_argument("--formulas", type=int, default=2048, help="formulas in the pool")
    parser.add_argument("--each", type=int, default=2, help="images per formula in the pool")
    parser.add_argument("--renew", type=int, default=8, help="formulas to render again per step")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--size", type=int, default=96, help="pixels")
    parser.add_argument("--grow-at", type=float, default=0.85, help="share of steps at 2/3 size")
    parser.add_argument("--rate", type=float, default=2e-3, help="peak learning rate")
    parser.add_argument("--save-every", type=int, default=100, help="steps between checkpoints")
    parser.add_argument("--bfloat16", action="store_true", help="for processors that support it")
    parser.add_argument("--device")
    return parser.parse_args(argv)


if __name__ == "__main__":
    train(parse_args())
