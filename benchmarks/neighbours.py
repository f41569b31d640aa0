"""Detectors of other packages beside ours: the same weights, images and shots.

Images are resized to one size before anybody sees them. Every detector has a process of its own
for each task and seed, so that memory is its own: the peak of the process less what it held with
torch, the images and the packages loaded. Image AUROC of each task and, over all of them, pixel
AUROC, seconds to fit, milliseconds to score an image and the most memory.

    pip install -e . anomalib pyod
    python benchmarks/neighbours.py --data DATA --weights WEIGHTS --sets casting,ksdd,elpv_mono256
"""

import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import torch
from bench_memory import peak_memory
from fewshot import (
    Task,
    make_parser,
    mean,
    measure,
    pixel_text,
    print_head,
    print_line,
    read_tasks,
)
from peers import Frozen
from safetensors.torch import load_file
from sklearn.neighbors import LocalOutlierFactor
from sklearn.svm import OneClassSVM
from torch.nn.functional import interpolate

from skcoft import COFTDetector, COFTEmbedder

BATCH = 8


class Anomalib(Frozen):
    """A model of anomalib as its authors set it up, but for the weights."""

    def __init__(self, model, finish, backbone, weights):
        super().__init__(backbone, weights, features_only=True)  # knows mean and deviation
        self.finish = finish
        self.model = model(backbone=backbone, pre_trained=False)
        state = load_file(weights / f"{backbone}.safetensors")
        self.model.feature_extractor.feature_extractor.load_state_dict(state, strict=False)
        self.network = self.model

    def fit(self, images):
        self.model.train()
        self.model.feature_extractor.eval()
        self.run(images)
        self.finish(self.model)
        self.model.eval()
        return self

    def score_samples(self, images):
        return -np.concatenate([batch.pred_score.ravel() for batch in self.run(images)])

    def anomaly_map(self, images):
        return np.concatenate([batch.anomaly_map[:, 0] for batch in self.run(images)])


class OnEmbeddings:
    """A detector of rows, of scikit-learn or PyOD, on frozen embeddings of whole images."""

    def __init__(self, detector, embedder):
        self.detector, self.embedder = detector, embedder

    def fit(self, images):
        self.detector.fit(self.embedder.fit_transform(images))
        return self

    def score_samples(self, images):
        embeddings = self.embedder.transform(images)
        if hasattr(self.detector, "score_samples"):
            return self.detector.score_samples(embeddings)
        return -self.detector.decision_function(embeddings)  # PyOD: higher is more anomalous


def patchcore(backbone, weights):
    from anomalib.models.image.patchcore.torch_model import PatchcoreModel

    def model(**options):
        return PatchcoreModel(layers=("layer2", "layer3"), **options)

    return Anomalib(model, lambda fitted: fitted.subsample_embedding(0.1), backbone, weights)


def padim(backbone, weights):
    from anomalib.models.image.padim.torch_model import PadimModel

    return Anomalib(PadimModel, lambda fitted: fitted.fit(), backbone, weights)


def pyod_of(name):
    """Return a builder of a detector of PyOD, with its defaults."""

    def build(network, seed):
        import pyod.models.kde
        import pyod.models.knn

        detector = getattr(getattr(pyod.models, name.lower()), name)()
        return OnEmbeddings(detector, COFTEmbedder(**network, max_iter=0))

    return build


DETECTORS = {
    "skcoft": lambda network, seed: COFTDetector(**network, random_state=seed),
    "skcoft, frozen": lambda network, seed: COFTDetector(**network, max_iter=0, random_state=seed),
    "anomalib PatchCore": lambda network, seed: patchcore(
        network["backbone"], network["weights"].parent
    ),
    "anomalib PaDiM": lambda network, seed: padim(network["backbone"], network["weights"].parent),
    "PyOD KNN": pyod_of("KNN"),
    "PyOD KDE": pyod_of("KDE"),
    "LocalOutlierFactor": lambda network, seed: OnEmbeddings(
        LocalOutlierFactor(novelty=True), COFTEmbedder(**network, max_iter=0)
    ),
    "OneClassSVM": lambda network, seed: OnEmbeddings(
        OneClassSVM(), COFTEmbedder(**network, max_iter=0)
    ),
}


def resized(task, size):
    """Return a task whose images and masks are squares of one size."""

    def squares(images):
        planes = torch.from_numpy(images.reshape(*images.shape[:3], -1)).movedim(3, 1).float()
        planes = interpolate(planes, (size, size), mode="bilinear", antialias=True)
        return planes.round().byte().movedim(1, 3).numpy().reshape(len(images), size, size, -1)

    kinds = {kind: squares(images) for kind, images in task.kinds.items()}
    masks = {
        kind: (squares((mask > 0).astype(np.uint8) * 255) > 127)[..., 0]
        for kind, mask in task.masks.items()
    }
    return Task(task.name, squares(task.pool), squares(task.normal), kinds, masks)


def run(name, network, task, shots, seed, threads):
    """Measure one detector in this process."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(threads)
    built = DETECTORS[name](network, seed)
    before = peak_memory()
    row = measure(lambda _: built, task, shots, seed, pixels=hasattr(built, "anomaly_map"))
    return {**row, "memory": peak_memory() - before}


def describe(rows):
    """Text of what is averaged over all tasks and seeds."""
    return (
        f"{pixel_text(rows)}fit {mean(rows, 'fit_s'):.1f} s, {mean(rows, 'score_ms'):.0f} ms, "
        f"{max(row['memory'] for row in rows):.0f} MiB"
    )


def main(argv=None):
    parser = make_parser(__doc__)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--size", type=int, default=256, help="side of the squares")
    parser.add_argument("--detectors", default=";".join(DETECTORS), help="separated by semicolons")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args(argv)
    network = {
        "backbone": args.backbone,
        "weights": args.weights / f"{args.backbone}.safetensors",
        "image_size": args.size,
    }
    tasks = [resized(task, args.size) for task in read_tasks(args)]
    print_head(args, tasks, f"{args.backbone}, {args.size} pixels, ")
    own = {"max_workers": 1, "mp_context": get_context("spawn"), "max_tasks_per_child": 1}
    with ProcessPoolExecutor(**own) as pool:
        for name in args.detectors.split(";"):
            found = []
            for task in tasks:
                options = network, task, args.shots
                seeds = range(args.seeds)
                jobs = [pool.submit(run, name, *options, s, args.threads) for s in seeds]
                found.append([job.result() for job in jobs])
            values = [mean(rows, "auroc") for rows in found]
            print_line(name, values, describe([row for rows in found for row in rows]))


if __name__ == "__main__":
    main()
