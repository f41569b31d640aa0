"""Shapes with relief: each function maps a formula and coordinates to a height (n, H, W).

A height of zero or less is outside of the shape. Inside, the height rises from the edge. The
signed distances follow Quilez' formulas. The generator moves limbs and holes a little, so that
images of one formula vary.

``p`` is the list of the formula's numbers, each uniform and of shape (n, 1, 1). A shape uses the
first few.
"""

import math

import torch
from torch import Generator, Tensor

from .chance import Params, uniform_per_image


def _bevel(distance: Tensor, width: Tensor) -> Tensor:
    """Turn a signed distance (negative inside) into a height: a slope of ``width``, then flat."""
    return (-distance).clamp_max(width)


def _box(x: Tensor, y: Tensor, half_x: Tensor, half_y: Tensor) -> Tensor:
    """Return the signed distance to a rectangle."""
    dx, dy = x.abs() - half_x, y.abs() - half_y
    outside = (dx.clamp_min(0).square() + dy.clamp_min(0).square()).sqrt()
    return outside + torch.maximum(dx, dy).clamp_max(0)


def plate(p: Params, x: Tensor, y: Tensor, generator: Generator) -> Tensor:
    """A rounded plate with a row of holes."""
    half_x, half_y, corner_radius = 0.35 + 0.45 * p[0], 0.25 + 0.4 * p[1], 0.2 * p[2]
    body = _box(x, y, half_x - corner_radius, half_y - corner_radius) - corner_radius
    count = 1 + (p[3] * 4).floor()
    pitch = 2 * half_x / (count + 1)
    cell = (x / pitch + 0.5 * ((count + 1) % 2)).round() - 0.5 * ((count + 1) % 2)
    cell = cell.clamp(-(count - 1) / 2, (count - 1) / 2)
    hole = ((x - cell * pitch).square() + y.square()).sqrt() - pitch * (0.1 + 0.25 * p[4])
    return _bevel(torch.maximum(body, -hole), 0.03 + 0.15 * p[5])


def wheel(p: Params, x: Tensor, y: Tensor, generator: Generator) -> Tensor:
    """Rings, nuts and gears: a polygon or a toothed disc with a hole and spokes."""
    radius, angle = (x * x + y * y).sqrt(), torch.atan2(y, x)
    (turn,) = uniform_per_image(len(x), 1, generator)
    count = 3 + (p[0] * 14).floor()
    teeth = 0.12 * p[1] * torch.tanh(3 * torch.cos(count * (angle + turn)))
    sector = 2 * math.pi / count
    inside = (angle + turn) % sector - sector / 2
    polygon = radius * inside.cos()
    outer = torch.where(p[2] < 0.5, radius - teeth, polygon) - (0.45 + 0.3 * p[3])
    hole = radius - (0.05 + 0.35 * p[4])
    body = torch.maximum(outer, -hole)
    spokes = (radius * inside.sin()).abs() - 0.05 - 0.1 * p[5]
    rim = torch.minimum((radius - 0.5).abs() - 0.12, torch.maximum(spokes, radius - 0.5))
    return _bevel(torch.where(p[6] < 0.25, rim, body), 0.03 + 0.2 * p[7])


def screw(p: Params, x: Tensor, y: Tensor, generator: Generator) -> Tensor:
    """A turned part along the vertical axis: head, threaded shaft, or the profile of a vase."""
    thread = 0.05 * p[0] * torch.sin(y * (15 + 40 * p[1]) + 2 * x)
    shaft = 0.08 + 0.15 * p[2] + thread
    profile = 0.12 + 0.3 * p[3] * (1 + torch.sin((2 + 5 * p[4]) * y + 6 * p[5])) / 2
    width = torch.where(p[6] < 0.5, shaft, profile)
    head = y < -0.4 + 0.2 * p[7]
    width = torch.where(head & (p[6] < 0.5), 0.2 + 0.25 * p[8], width)
    inside = (width - x.abs()) / (width + 1e-3)
    cylinder = width * (1 - (1 - inside.clamp(0, 1)).square()).clamp_min(0).sqrt()
    ends = 0.75 - y.abs()
    return torch.where(inside > 0, torch.minimum(cylinder, ends), -1.0)


def dish(p: Params, x: Tensor, y: Tensor, generator: Generator) -> Tensor:
    """A round object from above with concentric grooves, such as a bottle's mouth or a cap."""
    radius = (x * x + (y * (1 + 0.3 * p[0])).square()).sqrt()
    edge = 0.5 + 0.35 * p[1]
    grooves = 0.04 * torch.cos(radius * (8 + 40 * p[2]) + 6 * p[3])
    bowl = p[4] * (edge * edge - radius * radius) * 0.5
    return torch.where(radius < edge, torch.minimum(edge - radius, 0.08 + grooves + bowl), -1.0)


def body(p: Params, x: Tensor, y: Tensor, generator: Generator) -> Tensor:
    """A body of soft ellipses: trunk, head and limbs at slightly random positions."""
    shift = uniform_per_image(len(x), 12, generator)
    total = torch.zeros_like(x)
    for i in range(6):
        a, b, c = p[3 * i], p[3 * i + 1], p[3 * i + 2]
        size = (0.35, 0.2, 0.15, 0.15, 0.15, 0.12)[i] * (0.6 + 0.8 * c)
        spread = 0.0 if i == 0 else 1.1
        center_x = spread * (a - 0.5) + 0.15 * (shift[2 * i] - 0.5)
        center_y = spread * (b - 0.5) + 0.15 * (shift[2 * i + 1] - 0.5)
        turn = 6 * (a + b) + 0.6 * (shift[2 * i] - 0.5)
        u, v = x - center_x, y - center_y
        s, t = turn.cos() * u - turn.sin() * v, turn.sin() * u + turn.cos() * v
        total = total + torch.exp(-(s / size).square() - (t / (size * (0.3 + 0.7 * c))).square())
    return 0.35 * (total - 0.4).clamp_max(0.8)


def star(p: Params, x: Tensor, y: Tensor, generator: Generator) -> Tensor:
    """A blossom or a blot: the radius is a sum of several harmonics of the angle."""
    radius, angle = (x * x + y * y).sqrt() + 1e-6, torch.atan2(y, x)
    (turn,) = uniform_per_image(len(x), 1, generator)
    edge = 0.3 + 0.3 * p[0]
    for k in range(2, 6):
        edge = edge + 0.15 * p[k] * torch.cos(k * angle + 6 * p[k + 4] + 0.5 * turn)
    return _bevel(radius - edge, 0.1 + 0.4 * p[10])


SHAPES = [plate, wheel, screw, dish, body, body, star]
