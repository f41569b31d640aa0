"""The computation of a fitted detector, from inputs to decisions, as one torch module."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from .._evidence.backbone_score import BackboneScore
from .._evidence.clusters import ClusterScales
from .._evidence.component import ScoreComponent
from .._evidence.joint_score import JointScore
from .._evidence.maps import enlarge_maps
from .._evidence.standardization import Standardization
from .._evidence.torch_density import doubles
from .._input.images import resize
from .._input.mask import at_size, nearest_inside, patches_inside, pixels_inside
from .._input.pixels import FLOAT_RANGE_TOL
from .._network.backbone import Backbone
from .._network.bn_folding import unfold
from .._network.module_state import copy_module
from .._network.patches import patch_embeddings, resize_maps

MapSize = tuple[int, int]


class DetectorGraph(nn.Module):
    """Scores, decisions and labels of inputs, and maps of images.

    A graph cannot raise errors. So inputs that a detector rejects, such as images with values
    outside of 0..1, get a score of NaN and the label -1.

    Parameters
    ----------
    joint : JointScore
        The score.
    offset : float
        The threshold.
    shape : (H, W) or None
        Shape of the images before they are resized; None for tabular data.
    """

    def __init__(self, joint: JointScore, offset: float, shape: MapSize | None) -> None:
        super().__init__()
        self.shape = shape
        encoders = [score.encoder for score in joint.backbone_scores]
        copies = {id(encoder): copy_for_export(encoder.network) for encoder in encoders}
        self.networks = nn.ModuleList(copies.values())  # each once, although it has two scales
        self.network_indices = [list(copies).index(id(encoder)) for encoder in encoders]
        self.backbone_scores = nn.ModuleList(
            BackboneGraph(score, self.shape) for score in joint.backbone_scores
        )
        self.weights = doubles([joint.weights[key] for key in joint.components])
        self.means = doubles([joint.means[key] for key in joint.components])
        self.full_size = [i for i, _ in joint.embedding_keys]
        self.clusters = None if joint.cluster_labels is None else ClusterGraph(joint)
        self.offset = doubles(offset)
        map_keys = list(joint.map_components())
        self.output_names = ["score", "decision", "label"] + ["anomaly_map"] * bool(map_keys)
        scales = [joint.standardizations[key] for key in map_keys]
        self.map_scales = doubles([(scale.mean, scale.std) for scale in scales])
        areas = [joint.backbone_scores[i].area for i, _ in map_keys]
        self.map_weights = [area / sum(areas) for area in areas]
        self.resize_map = Resizing(enlarge_maps)
        mask = encoders[0].mask
        self.inside = None if mask is None or shape is None else doubles(at_size(mask, shape))
        self.eval()
        if shape is not None:
            with torch.no_grad():
                self(torch.zeros(1, 3, *shape))  # computes the matrices of every resizing

    def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        scores, log_maps, embeddings = [], [], []
        for index, graph in zip(self.network_indices, self.backbone_scores, strict=True):
            component_scores, component_maps, features = graph(self.networks[index], inputs)
            scores += component_scores
            log_maps += component_maps
            embeddings.append(features)
        joint = ((torch.stack(scores, 1) - self.means) * self.weights).sum(1)
        maps = [self.mean_map(log_maps)] if log_maps else []
        if self.clusters is not None:
            labels = self.clusters.assign([embeddings[i] for i in self.full_size])
            joint = self.clusters.rescale(joint, labels)
            maps = [self.clusters.rescale_maps(each, labels).float() for each in maps]
        # NaN is never within the limits
        low, high = (
            (-np.inf, np.inf) if self.shape is None else (-FLOAT_RANGE_TOL, 1 + FLOAT_RANGE_TOL)
        )
        is_valid = ((inputs > low) & (inputs < high)).flatten(1).all(1)
        score = torch.where(is_valid, joint, float("nan"))
        decision = score - self.offset
        label = torch.where(torch.isfinite(decision) & (decision >= 0), 1, -1)
        return (score, decision, label, *maps)

    def mean_map(self, log_maps: list[torch.Tensor]) -> torch.Tensor:
        """Return anomaly maps as :meth:`JointScore.maps`, at the size of the images."""
        standardised = [
            -Standardization(*scale).apply(log_map).float()[:, None]
            for scale, log_map in zip(self.map_scales, log_maps, strict=True)
        ]
        finest = max(map(grid_of, standardised), key=np.prod)
        mean = sum(
            weight * self.resize_map(maps, finest)
            for weight, maps in zip(self.map_weights, standardised, strict=True)
        )
        maps = self.resize_map(mean, self.shape)[:, 0]
        return maps if self.inside is None else torch.where(self.inside > 0, maps, float("nan"))


class ClusterGraph(nn.Module):
    """Scores and maps of images of several clusters on one scale, as :class:`JointScore`."""

    labels: torch.Tensor

    def __init__(self, joint: JointScore) -> None:
        super().__init__()
        shots = joint.embeddings
        self.shots, self.half_norms = doubles(shots.T), doubles(np.square(shots).sum(1) / 2)
        self.register_buffer("labels", torch.as_tensor(joint.cluster_labels))
        scales = [joint.score_scales, *([joint.map_scales] if joint.map_components() else [])]
        self.medians = nn.ParameterList(doubles(each.medians) for each in scales)
        self.widths = nn.ParameterList(doubles(each.widths) for each in scales)

    def assign(self, embeddings: list[torch.Tensor]) -> torch.Tensor:
        """Return the cluster of the shot nearest to each image."""
        rows = torch.cat(embeddings, 1) / len(embeddings) ** 0.5
        return self.labels[(rows @ self.shots - self.half_norms).argmax(1)]

    def rescale(self, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return scores (n,) on the scale of the first cluster."""
        return ClusterScales(self.medians[0], self.widths[0]).apply(scores, labels)

    def rescale_maps(self, maps: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return maps (n, h, w) on the scale of the first cluster."""
        scales = ClusterScales(self.medians[1][:, None, None], self.widths[1][:, None, None])
        return -scales.apply(-maps, labels)


class BackboneGraph(nn.Module):
    """Scores and log maps of the components of one backbone at one scale, and its embeddings.

    Parameters
    ----------
    backbone_score : BackboneScore
        The components.
    shape : (H, W) or None
        Shape of the images before they are resized; None for tabular data.
    """

    size: MapSize
    inside: torch.Tensor | None
    chosen: torch.Tensor
    nearest: torch.Tensor

    def __init__(self, backbone_score: BackboneScore, shape: MapSize | None) -> None:
        super().__init__()
        encoder, components = backbone_score.scaled, backbone_score.components
        self.resize = Resizing(resize_maps)
        self.components = nn.ModuleList(graph_of(name, c) for name, c in components.items())
        self.on_patches = [component.needs_patches for component in components.values()]
        self.shape, self.size, self.mask, self.inside = shape, (0, 0), encoder.mask, None
        if shape is not None and encoder.sizing is not None:
            height, width = encoder.sizing.of(shape)
            self.size = int(height), int(width)
            if encoder.mask is not None:
                self.inside = doubles(pixels_inside(encoder.mask, shape, self.size, resize))

    def forward(
        self, network: Backbone, inputs: torch.Tensor
    ) -> tuple[list[torch.Tensor], list[torch.Tensor], torch.Tensor]:
        if self.shape not in (None, self.size):
            inputs = self.resize(inputs, self.size).clamp(0, 1)
        if self.inside is not None:
            # as fill_outside of _input/mask.py
            mean = (inputs.double() * self.inside).sum((2, 3), keepdim=True) / self.inside.sum()
            inputs = torch.where(self.inside > 0, inputs, mean.float())
        patches, grid = None, (0, 0)
        if any(self.on_patches):
            features, maps = network.features_and_maps(inputs, network.layers)
            pixels = self.size[0] * self.size[1]
            patches = patch_embeddings(maps, network.projection, pixels, resize=self.resize)
            grid = grid_of(patches[..., 0])
            if self.mask is not None:
                self.choose_patches(self.mask, grid)
                patches = patches.flatten(1, 2)[:, self.chosen].unsqueeze(1)
        else:
            features = network(inputs)
        embeddings = F.normalize(features.float(), dim=1).double()
        scores: list[torch.Tensor] = []
        log_maps: list[torch.Tensor] = []
        for graph, on_patches in zip(self.components, self.on_patches, strict=True):
            output = graph(patches if on_patches else embeddings)
            score, *maps = output if isinstance(output, tuple) else (output,)
            scores.append(score)
            if self.mask is not None:  # maps (n, 1, k) of the patches inside
                maps = [each.flatten(1)[:, self.nearest].unflatten(1, grid) for each in maps]
            log_maps += maps
        return scores, log_maps, embeddings

    def choose_patches(self, mask: np.ndarray, grid: MapSize) -> None:
        """Set the indices of the patches inside the mask, and the nearest of these to each patch.

        They are computed in the first run and are constants of the exported graph.
        """
        if not hasattr(self, "chosen"):
            inside = patches_inside(mask, grid)
            self.register_buffer("chosen", torch.from_numpy(np.flatnonzero(inside)))
            self.register_buffer("nearest", torch.from_numpy(nearest_inside(inside).ravel()))


def graph_of(name: str, component: ScoreComponent) -> nn.Module:
    """Return the module of a component; raise ValueError if it has none."""
    graph = component.to_graph()
    if graph is None:
        raise ValueError(
            f"The component {name!r} of the score cannot be exported to ONNX. Store the detector "
            "with COFTDetector.save."
        )
    return graph


def grid_of(maps: torch.Tensor) -> MapSize:
    """Return the last two sizes of maps as integers, which are constants of the graph."""
    height, width = maps.shape[-2:]
    return int(height), int(width)


class Resizing(nn.Module):
    """Resize maps (n, c, h, w) by two matrix products, with the same weights as torch.

    Runtimes interpolate in different ways, but matrix products are the same everywhere. The first
    run computes the matrices for the sizes that occur. They are constants of the exported graph.

    Parameters
    ----------
    function : callable
        The function of torch, from maps and a size to maps; linear along each axis.
    size : (h, w), default=(None, None)
        The size, if it is always the same. None leaves a side as it is.
    """

    def __init__(
        self,
        function: Callable[[torch.Tensor, Any], torch.Tensor],
        size: tuple[int | None, int | None] = (None, None),
    ) -> None:
        super().__init__()
        self.function, self.size = function, size

    def forward(self, maps: torch.Tensor, size: MapSize | None = None) -> torch.Tensor:
        height, width = grid_of(maps)
        h, w = size or self.size
        maps = maps if w in (None, width) else maps @ self.matrix(width, w).T
        return maps if h in (None, height) else self.matrix(height, h) @ maps

    def matrix(self, before: int, after: int) -> torch.Tensor:
        """Return the weights (after, before): the columns of an identity matrix, resized."""
        name = f"weights_{before}_{after}"
        if not hasattr(self, name):
            unit = torch.eye(before)[None, None]
            self.register_buffer(name, self.function(unit, (after, before))[0, 0])
        return getattr(self, name)


def copy_for_export(network: nn.Module) -> nn.Module:
    """Copy a network to the CPU; replace what exporters do not support or runtimes do themselves.

    Exporters support pooling to a grid only in part, so it becomes a matrix product. Runtimes fold
    batch normalisation themselves.
    """
    network = copy_module(network).cpu().requires_grad_(False)
    if isinstance(network, Backbone):
        unfold(network.body, network.pairs)
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.AdaptiveAvgPool2d and child.output_size not in (1, (1, 1)):
                size = child.output_size
                both = size if isinstance(size, tuple) else (size, size)
                setattr(parent, name, Resizing(F.adaptive_avg_pool2d, both))
    return network
