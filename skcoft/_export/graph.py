"""What a fitted detector computes, from inputs to a decision, as one module of torch."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from .._evidence.image_density import MeanOfDensities
from .._evidence.patch_density import count_lowest
from .._evidence.prompts import SIDES, TEMPERATURE
from .._evidence.standardization import location_of, scale_of
from .._input.images import resize
from .._input.mask import at_size, nearest_inside, patches_inside, pixels_inside
from .._input.pixels import FLOAT_RANGE_TOL
from .._network.bn_folding import unfold
from .._network.module_state import copy_module
from .._network.patches import patch_embeddings, resize_maps
from ..density import LOG_2PI, GaussianDensity, KernelDensity, log_constant


class Scorer(nn.Module):
    """Scores, decisions and labels of inputs, and maps of images.

    Inputs that no detector takes, such as images of values that are not in 0..1, get a score of
    NaN and the label -1: a graph cannot raise.

    Parameters
    ----------
    joint : JointScore
        Of the detector.
    offset : float
        Its threshold.
    shape : (H, W) or None
        Of the images, before they are resized; None for rows.
    """

    def __init__(self, joint, offset, shape):
        super().__init__()
        self.shape = shape and tuple(shape)
        copies = {id(b.encoder): copy_for_export(b.encoder.network) for b in joint.backbone_scores}
        self.networks = nn.ModuleList(copies.values())  # that of two scales once
        self.which = [list(copies).index(id(branch.encoder)) for branch in joint.backbone_scores]
        self.backbone_scores = nn.ModuleList(
            BranchGraph(branch, shape) for branch in joint.backbone_scores
        )
        self.weights = doubles([joint.weights[key] for key in joint.components])
        self.locations = doubles([joint.locations[key] for key in joint.components])
        self.offset = doubles(offset)
        drawing = joint.map_components()
        self.draws = len(drawing) > 0
        self.levels = doubles([(location_of(part), scale_of(part)) for part in drawing.values()])
        areas = [joint.backbone_scores[i].area for i, _ in drawing]
        self.shares = [area / sum(areas) for area in areas]
        self.resize_map = Resizing(enlarge_maps)
        mask = joint.backbone_scores[0].encoder.mask
        self.inside = None if mask is None else doubles(at_size(mask, shape))
        self.eval()
        if shape is not None:
            with torch.no_grad():
                self(torch.zeros(1, 3, *shape))  # finds the weights of every resizing

    @property
    def output_names(self):
        """Names of what it computes, in order."""
        return ["score", "decision", "label"] + ["anomaly_map"] * self.draws

    def forward(self, inputs):
        scores, maps = [], []
        for which, branch in zip(self.which, self.backbone_scores, strict=True):
            found, log_map = branch(self.networks[which], inputs)
            scores += found
            maps += [] if log_map is None else [log_map]
        joint = ((torch.stack(scores, 1) - self.locations) * self.weights).sum(1)
        score = torch.where(self.are_valid(inputs), joint, float("nan"))
        decision = score - self.offset
        label = torch.where(torch.isfinite(decision) & (decision >= 0), 1, -1)
        return (score, decision, label) + ((self.draw(maps),) if self.draws else ())

    def are_valid(self, inputs):
        """Whether each input holds what a detector takes; NaN is never within limits."""
        low, high = (-FLOAT_RANGE_TOL, 1 + FLOAT_RANGE_TOL) if self.shape else (-np.inf, np.inf)
        return ((inputs > low) & (inputs < high)).flatten(1).all(1)

    def draw(self, log_maps):
        """As ``JointScore.maps``, then at the size of the images."""
        scaled = [
            ((at - seen) / scale).float()[:, None]
            for (at, scale), seen in zip(self.levels, log_maps, strict=True)
        ]
        finest = max((tuple(map(int, drawn.shape[-2:])) for drawn in scaled), key=np.prod)
        mean = sum(
            share * self.resize_map(drawn, finest)
            for share, drawn in zip(self.shares, scaled, strict=True)
        )
        drawn = self.resize_map(mean, self.shape)[:, 0]
        return drawn if self.inside is None else torch.where(self.inside > 0, drawn, float("nan"))


class BranchGraph(nn.Module):
    """Scores of a branch's parts, in their order, and its map of log densities or None."""

    def __init__(self, branch, shape):
        super().__init__()
        encoder = branch.encoder.at_scale(branch.scale)
        self.shape = shape and tuple(shape)
        self.size = shape and tuple(map(int, encoder.sizing.of(shape)))
        self.resize = Resizing(resize_maps)
        unknown = set(branch.components) - {"image", "patch", *OTHERS}
        if unknown:
            raise ValueError(f"to_onnx does not know the parts {sorted(unknown)} of the score.")
        whole = branch.components["image"]
        several = isinstance(whole, MeanOfDensities)
        self.whole = MeanGraph(whole) if several else graph_of_density(whole.fitted)
        local = branch.components.get("patch")
        self.local = None if local is None else LocalGraph(local.kde)
        others = {name: part for name, part in branch.components.items() if name in OTHERS}
        self.others = nn.ModuleList(OTHERS[name](part) for name, part in others.items())
        self.mask, self.inside = encoder.mask, None
        if encoder.mask is not None:
            inside = pixels_inside(encoder.mask, shape, self.size, resize)
            self.inside = doubles(inside)

    def forward(self, network, inputs):
        if self.size != self.shape:
            inputs = self.resize(inputs, self.size).clamp(0, 1)
        if self.inside is not None:
            inputs = self.fill(inputs)
        if self.local is None:
            return self.of_embeddings(network(inputs)), None
        features, maps = network.features_and_maps(inputs, network.layers)
        pixels = self.size[0] * self.size[1]
        patches = patch_embeddings(maps, network.projection, pixels, resize=self.resize)
        if self.mask is None:
            log_map = self.local(patches)
            flat = log_map.flatten(1)
        else:
            chosen, nearest = self.choose(tuple(map(int, patches.shape[1:3])))
            flat = self.local(patches.flatten(1, 2)[:, chosen])
            log_map = flat[:, nearest].unflatten(1, tuple(map(int, patches.shape[1:3])))
        least = flat.topk(count_lowest(int(flat.shape[1])), dim=1, largest=False)[0]
        whole, *others = self.of_embeddings(features)
        return [whole, least.mean(1), *others], log_map

    def of_embeddings(self, features):
        """Scores of the parts that see whole images."""
        rows = unit_rows(features)
        return [self.whole(rows), *(other(rows) for other in self.others)]

    def choose(self, grid):
        """Which patches of a grid are inside, and of each the nearest of these; found once."""
        if not hasattr(self, "chosen"):
            inside = patches_inside(self.mask, grid)
            self.register_buffer("chosen", torch.from_numpy(np.flatnonzero(inside)))
            self.register_buffer("nearest", torch.from_numpy(nearest_inside(inside).ravel()))
        return self.chosen, self.nearest

    def fill(self, images):
        """As ``_mask.fill_outside``, of a batch."""
        mean = (images.double() * self.inside).sum((2, 3), keepdim=True) / self.inside.sum()
        return torch.where(self.inside > 0, images, mean.float())


class Resizing(nn.Module):
    """Resize maps (n, c, h, w) by two matrix products, with the weights by which torch does it.

    Runtimes differ in how they interpolate, but not in matrix products. A first run finds the
    matrices of the sizes that it meets; they are constants of an export.

    Parameters
    ----------
    function : callable
        How torch does it, from maps and a size to maps; linear along each axis.
    size : (h, w), optional
        Where it is always the same.
    """

    def __init__(self, function, size=None):
        super().__init__()
        self.function, self.size = function, size

    def forward(self, maps, size=None):
        height, width = map(int, maps.shape[-2:])
        h, w = size or self.size
        maps = maps if width == w else maps @ self.matrix(width, w).T
        return maps if height == h else self.matrix(height, h) @ maps

    def matrix(self, before, after):
        """Weights (after, before): what becomes of the columns of an identity matrix."""
        name = f"weights_{before}_{after}"
        if not hasattr(self, name):
            unit = torch.eye(before)[None, None]
            self.register_buffer(name, self.function(unit, (after, before))[0, 0])
        return getattr(self, name)


def enlarge_maps(maps, size):
    """As ``_join.resize_map``."""
    return F.interpolate(maps, size, mode="bilinear")


def copy_for_export(network):
    """Copy a network to the CPU; pooling to a grid, which exporters know in part, by matrices."""
    network = copy_module(network).cpu().requires_grad_(False)
    if getattr(network, "pairs", None):
        unfold(network.body, network.pairs)  # runtimes fold by themselves
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.AdaptiveAvgPool2d and child.output_size not in (1, (1, 1)):
                size = child.output_size
                size = (size, size) if isinstance(size, int) else size
                setattr(parent, name, Resizing(F.adaptive_avg_pool2d, size))
    return network


class LocalGraph(nn.Module):
    """Log density (n, ...) of patches (n, ..., d), as ``PatchKDE.log_maps``."""

    def __init__(self, kernels):
        super().__init__()
        for name in ("center", "scaled", "exponents"):
            self.register_buffer(name, torch.tensor(getattr(kernels, name)))
        self.bandwidth, self.constant = kernels.bandwidth, doubles(kernels.constant)

    def forward(self, patches):
        rows = (patches - self.center) / self.bandwidth
        found = torch.logsumexp(rows @ self.scaled.T + self.exponents, -1).double()
        return found - 0.5 * rows.square().sum(-1).double() - self.constant


class HeadGraph(nn.Module):
    """Score of embeddings by a linear head, as ``LabelledHead``."""

    def __init__(self, head):
        super().__init__()
        self.coefficients, self.intercept = doubles(head.coefficients), doubles(head.intercept)

    def forward(self, rows):
        return rows @ self.coefficients + self.intercept


class PromptsGraph(nn.Module):
    """Score of embeddings by prompts, as ``TextPrompts``."""

    def __init__(self, part):
        super().__init__()
        self.sides = nn.ParameterList(doubles(part.texts[side] / TEMPERATURE) for side in SIDES)

    def forward(self, rows):
        normal, anomalous = (torch.logsumexp(rows @ side.T, 1) for side in self.sides)
        return normal - anomalous


OTHERS = {"labelled": HeadGraph, "prompts": PromptsGraph}  # parts that see embeddings


class KernelGraph(nn.Module):
    """Log density of embeddings, as :class:`skcoft.density.KernelDensity`, in double precision."""

    def __init__(self, density):
        super().__init__()
        state, d = vars(density), density.n_features_in_
        kernels, shape = state["_kernels"], state["_shape"]
        self.whiten = nn.Identity() if shape is None else WhiteningGraph(shape)
        constant = log_constant(len(kernels), d, density.bandwidth_)
        constant += 0.0 if shape is None else 0.5 * shape.log_determinant_
        self.bandwidth, self.constant = doubles(density.bandwidth_), doubles(constant)
        self.center = doubles(state["_center"])
        self.points = doubles(kernels[:, :-1].T)
        self.exponents = doubles(kernels[:, -1])

    def forward(self, rows):
        z = (self.whiten(rows) - self.center) / self.bandwidth
        found = torch.logsumexp(z @ self.points + self.exponents, 1)
        return found - 0.5 * z.square().sum(1) - self.constant


class WhiteningGraph(nn.Module):
    """Table in units of a covariance, as ``GaussianDensity.whiten``."""

    def __init__(self, density):
        super().__init__()
        state = vars(density)
        self.ridge = doubles(state["_ridge"])
        self.location = doubles(density.location_)
        self.directions = doubles(state["_directions"])
        self.deviations = doubles(np.sqrt(state["_spanned"]))

    def forward(self, rows):
        centered = rows - self.location
        along = centered @ self.directions
        outside = centered.square().sum(1, keepdim=True) - along.square().sum(1, keepdim=True)
        return torch.cat([along / self.deviations, (outside.clamp(min=0) / self.ridge).sqrt()], 1)


class GaussianGraph(nn.Module):
    """Log density of embeddings, as :class:`skcoft.density.GaussianDensity`."""

    def __init__(self, density):
        super().__init__()
        self.whiten = WhiteningGraph(density)
        self.constant = doubles(density.log_determinant_ + density.n_features_in_ * LOG_2PI)

    def forward(self, rows):
        return -0.5 * (self.whiten(rows).square().sum(1) + self.constant)


class MeanGraph(nn.Module):
    """Mean of several densities, as ``MeanOfDensities``."""

    def __init__(self, part):
        super().__init__()
        self.members = nn.ModuleList(graph_of_density(fitted) for fitted in part.fitted)
        self.means, self.deviations = map(doubles, zip(*part.levels, strict=True))

    def forward(self, rows):
        scores = torch.stack([member(rows) for member in self.members], 1)
        standard = (scores - self.means) / self.deviations
        return self.means[0] + self.deviations[0] * standard.mean(1)


GRAPHS = {KernelDensity: KernelGraph, GaussianDensity: GaussianGraph}


def graph_of_density(density):
    """Return the module of a fitted density; ValueError for one of the user's."""
    if type(density) not in GRAPHS:
        raise ValueError(
            "to_onnx needs a density whose computation it knows: 'kde', 'gaussian' or one of "
            f"skcoft.density; got density={density!r}."
        )
    return GRAPHS[type(density)](density)


def doubles(numbers):
    """Constants in double precision; numbers of Python's some exporters round to single."""
    return nn.Parameter(torch.tensor(np.asarray(numbers, dtype=np.float64)), False)


def unit_rows(features):
    """L2-normalised embeddings, in double precision."""
    return F.normalize(features.float(), dim=1).double()
