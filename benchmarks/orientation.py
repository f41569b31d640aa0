"""Images turned by any angle: views as gentle as by default against views of every orientation.

Turns every image of a task, shots and test images alike, by an angle of its own (the border is
mirrored) and measures frozen detectors with both kinds of views on upright and on turned images.
Data sets and weights are those of ``fewshot.py``.

    python benchmarks/orientation.py --data DATA --weights WEIGHTS --seeds 2 --max-test 40
"""

import warnings

import torch
from fewshot import make_parser, mean, measure_seeds, print_head, print_line, read_tasks

from skcoft import COFTDetector
from skcoft.augmentation import random_views

VIEWS = {"default": None, "degrees=180": {"degrees": 180}}
STILL = {"translate": 0, "scale": 0, "flip": 0, "brightness": 0, "contrast": 0}


def turn(images, generator):
    """Turn uint8 images (n, H, W[, 3]), each by its own random angle."""
    batch = torch.from_numpy(images.reshape(*images.shape[:3], -1)).movedim(3, 1) / 255
    turned = random_views(batch, generator=generator, degrees=180, **STILL)
    return (turned * 255).round().byte().movedim(1, 3).numpy().reshape(images.shape)


def turn_task(task):
    """Return the task with every image turned."""
    generator = torch.Generator().manual_seed(0)
    return task._replace(
        pool=turn(task.pool, generator),
        normal=turn(task.normal, generator),
        kinds={kind: turn(images, generator) for kind, images in task.kinds.items()},
    )


def main(argv=None):
    parser = make_parser(__doc__)
    parser.add_argument("--backbone", default="mobilenetv2_100")
    args = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    upright = read_tasks(args)
    weights = args.weights / f"{args.backbone}.safetensors"
    print_head(args, upright, f"{args.backbone}, ")
    for kind, tasks in (("upright", upright), ("turned", list(map(turn_task, upright)))):
        for name, augmentation in VIEWS.items():

            def build(seed, augmentation=augmentation):
                return COFTDetector(
                    args.backbone,
                    weights=weights,
                    max_iter=0,
                    augmentation=augmentation,
                    random_state=seed,
                )

            values = [mean(measure_seeds(build, task, args), "auroc") for task in tasks]
            print_line(f"{kind}, views: {name}", values)


if __name__ == "__main__":
    main()
