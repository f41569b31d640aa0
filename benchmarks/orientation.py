"""Images turned by any angle: views as gentle as by default against views of every orientation.

Turns every image of the tasks of ``fewshot.py``, shots and test images alike, by an angle of its
own (the border is mirrored) and measures ``COFTDetector`` with both kinds of views on upright and
on turned images.

    python benchmarks/orientation.py --eval EVAL --data DATA --weights WEIGHTS --seeds 3
"""

import warnings

import numpy as np
import torch
from tasks import draw_shots, load, make_parser

from skcoft import COFTDetector
from skcoft.augmentation import random_views

VIEWS = {"default": None, "degrees=180": {"degrees": 180}}
STILL = {"translate": 0, "scale": 0, "flip": 0, "brightness": 0, "contrast": 0}


def turn(images, generator):
    """Turn uint8 images (n, H, W[, 3]), each by its own random angle."""
    batch = torch.from_numpy(images.reshape(*images.shape[:3], -1)).movedim(3, 1) / 255
    turned = random_views(batch, generator=generator, degrees=180, **STILL)
    return (turned * 255).round().byte().movedim(1, 3).numpy().reshape(images.shape)


def main():
    parser = make_parser(__doc__.split("\n")[0])
    parser.add_argument("--backbone", default="mobilenetv2_100")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    auroc, tasks, columns = load(args)
    weights = args.weights / f"{args.backbone}.safetensors"
    print(f"{args.backbone}, {args.shots} shots, {args.seeds} seeds, max_test={args.max_test}")
    print(f"{'images':8s} {'views':12s} {'mean':>5s} {columns}")
    for turned in (False, True):
        for name, augmentation in VIEWS.items():
            row = []
            for _, pool, normal, kinds, _ in tasks:
                generator = torch.Generator().manual_seed(0)
                arrays = [pool, normal, *kinds.values()]
                if turned:
                    arrays = [turn(images, generator) for images in arrays]
                pool, normal, *anomalies = arrays
                found = []
                for seed in range(args.seeds):
                    detector = COFTDetector(
                        args.backbone,
                        weights=weights,
                        max_iter=0,
                        augmentation=augmentation,
                        random_state=seed,
                    ).fit(draw_shots(pool, args, seed))
                    scores = detector.score_samples(normal)
                    found += [auroc(scores, detector.score_samples(x)) for x in anomalies]
                row.append(np.mean(found))
            cells = " ".join(f"{value:8.1f}" for value in row)
            kind = "turned" if turned else "upright"
            print(f"{kind:8s} {name:12s} {np.mean(row):5.1f} {cells}", flush=True)


if __name__ == "__main__":
    main()
