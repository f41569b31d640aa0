"""Compare the default views with views of every orientation on images at random angles.

Turns every image of a task, shots and test images alike, by a random angle (the border is
mirrored). Measures frozen detectors with both kinds of views on upright and on turned images.
``fewshot.py`` documents the data sets and weights.

    python benchmarks/orientation.py --data DATA --weights WEIGHTS --seeds 2 --max-test 40
"""

import warnings
from typing import Any

import numpy as np
import torch
from fewshot import Task, make_parser, mean, measure_seeds, print_header, print_line, read_tasks

from skcoft import COFTDetector
from skcoft.augmentation import random_views

VIEWS: dict[str, dict[str, Any] | None] = {"default": None, "degrees=180": {"degrees": 180}}
TURN_ONLY = {"translate": 0, "scale": 0, "flip": 0, "brightness": 0, "contrast": 0}


def turn(images: np.ndarray, generator: torch.Generator) -> np.ndarray:
    """Turn each uint8 image (n, H, W[, 3]) by a random angle."""
    batch = torch.from_numpy(images.reshape(*images.shape[:3], -1)).movedim(3, 1) / 255
    turned = random_views(batch, generator=generator, degrees=180, **TURN_ONLY)
    return (turned * 255).round().byte().movedim(1, 3).numpy().reshape(images.shape)


def turn_task(task: Task) -> Task:
    """Return the task with every image turned."""
    generator = torch.Generator().manual_seed(0)
    return task._replace(
        pool=turn(task.pool, generator),
        normal=turn(task.normal, generator),
        anomalies={kind: turn(images, generator) for kind, images in task.anomalies.items()},
    )


def main(argv: list[str] | None = None) -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--backbone", default="mobilenetv2_100")
    args = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    upright = read_tasks(args)
    weights = args.weights / f"{args.backbone}.safetensors"
    print_header(args, upright, f"{args.backbone}, ")
    for orientation, tasks in (("upright", upright), ("turned", list(map(turn_task, upright)))):
        for name, augmentation in VIEWS.items():

            def build(
                seed: int, augmentation: dict[str, Any] | None = augmentation
            ) -> COFTDetector:
                return COFTDetector(
                    args.backbone,
                    weights=weights,
                    max_iter=0,
                    augmentation=augmentation,
                    random_state=seed,
                )

            values = [mean(measure_seeds(build, task, args), "auroc") for task in tasks]
            print_line(f"{orientation}, views: {name}", values)


if __name__ == "__main__":
    main()
