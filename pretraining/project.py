"""Fit the projections of the embedding for a trained trunk on procedurally generated images.

    python -m pretraining.project trunk.safetensors backbone.safetensors --seed 0

``train.py`` does this at the end of a run. The command does it for a trunk in timm's layout.
"""

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from skcoft._network.embedded import (
    EMBEDDING_LAYERS,
    PATCH_LAYERS,
    PIXEL_MEAN,
    PIXEL_STD,
    TRAINING_SIZE,
    TRUNK_ARCHITECTURE,
    TRUNK_OPTIONS,
    Embedded,
    average_cells,
)
from skcoft._network.patches import average_neighbours

from .images import draw_formulas, photograph, render


@torch.no_grad()
def project(
    trunk: dict[str, torch.Tensor], seed: int, n_images: int = 512, floor: float = 0.1
) -> Embedded:
    """Return the network (an ``Embedded`` in eval mode) with the weights ``trunk``.

    Its projections are the largest principal components of the cells (for patch embeddings, of the
    patches) of ``n_images`` photographs, scaled to unit variance. ``floor`` times the mean
    variance is added to every variance, so that components with little variance are not amplified.
    """
    network = Embedded().eval()
    network.trunk.load_state_dict(network.trunk.state_dict() | trunk)
    generator = torch.Generator().manual_seed(seed)
    batches = []
    for formulas in draw_formulas(n_images, generator).split(64):
        images = photograph(
            render(formulas, TRAINING_SIZE[0], generator), TRAINING_SIZE[0], generator
        )
        images = (images - PIXEL_MEAN[0]) / PIXEL_STD[0]
        maps = network.trunk.forward_intermediates(images, intermediates_only=True)
        batches.append(
            [average_cells(maps[layer]) for layer in EMBEDDING_LAYERS]
            + [average_neighbours(maps[layer]) for layer in PATCH_LAYERS]
        )
    projections = [*network.whiten, *network.whiten_local.values()]
    for maps, projection in zip(zip(*batches, strict=True), projections, strict=True):
        rows = torch.cat(maps).movedim(1, -1).flatten(0, 2)
        variances, directions = torch.linalg.eigh(rows.T.cov())
        scaled = directions / (variances + floor * variances.mean()).sqrt()
        weight = scaled[:, -projection.out_channels :].T
        projection.weight.copy_(weight[:, :, None, None])
        projection.bias.copy_(-weight @ rows.mean(dim=0))
    return network


def save(network: Embedded, path: Path) -> None:
    """Save the weights in float16, with the architecture and normalisation as metadata."""
    state = {k: v for k, v in network.state_dict().items() if "num_batches" not in k}
    metadata = {"architecture": TRUNK_ARCHITECTURE, "options": json.dumps(TRUNK_OPTIONS)}
    metadata |= {"mean": json.dumps(PIXEL_MEAN), "std": json.dumps(PIXEL_STD)}
    save_file({k: v.half().contiguous() for k, v in state.items()}, path, metadata)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("trunk", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    trunk = {k: v.float() for k, v in load_file(args.trunk).items()}
    save(project(trunk, args.seed), args.out)


if __name__ == "__main__":
    main()
