"""Give a trained trunk the projections of the embedding, from statistics of procedural images.

    python -m pretraining.project trunk.safetensors backbone.safetensors --seed 0

``train.py`` does so at the end of a run; the command does it for a trunk in timm's layout.
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
def project(trunk, seed, n_images=512, floor=0.1):
    """Return the network (an ``Embedded`` in eval mode) of the weights ``trunk``.

    Its projections are the largest principal components of the cells (of the positions, for local
    embeddings) of ``n_images`` photographs, scaled to unit variance. ``floor`` times the mean
    variance is added to every variance, so that components which hardly vary are not blown up.
    """
    network = Embedded().eval()
    network.trunk.load_state_dict(network.trunk.state_dict() | trunk)
    generator = torch.Generator().manual_seed(seed)
    found = []
    for part in draw_formulas(n_images, generator).split(64):
        images = photograph(render(part, TRAINING_SIZE[0], generator), TRAINING_SIZE[0], generator)
        images = (images - PIXEL_MEAN[0]) / PIXEL_STD[0]
        maps = network.trunk.forward_intermediates(images, intermediates_only=True)
        found.append(
            [average_cells(maps[depth]) for depth in EMBEDDING_LAYERS]
            + [average_neighbours(maps[depth]) for depth in PATCH_LAYERS]
        )
    layers = [*network.whiten, *network.whiten_local.values()]
    for groups, whiten in zip(zip(*found, strict=True), layers, strict=True):
        rows = torch.cat(groups).movedim(1, -1).flatten(0, 2)
        variances, directions = torch.linalg.eigh(rows.T.cov())
        scaled = directions / (variances + floor * variances.mean()).sqrt()
        weight = scaled[:, -whiten.out_channels :].T
        whiten.weight.copy_(weight[:, :, None, None])
        whiten.bias.copy_(-weight @ rows.mean(dim=0))
    return network


def save(network, path):
    """Write the float16 weights, with what they are made for."""
    state = {k: v for k, v in network.state_dict().items() if "num_batches" not in k}
    note = {"architecture": TRUNK_ARCHITECTURE, "options": json.dumps(TRUNK_OPTIONS)}
    note |= {"mean": json.dumps(PIXEL_MEAN), "std": json.dumps(PIXEL_STD)}
    save_file({k: v.half().contiguous() for k, v in state.items()}, path, note)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("trunk", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    trunk = {k: v.float() for k, v in load_file(args.trunk).items()}
    save(project(trunk, args.seed), args.out)


if __name__ == "__main__":
    main()
