"""Textures: each function maps a formula and coordinates (n, H, W) to values of about 0 to 1.

``p`` is the list of the formula's numbers, each uniform and of shape (n, 1, 1). A texture uses the
first few. Phases, lattices and seeds come from the generator, so another image of the same formula
shows another area of the same material.
"""

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from .chance import Params, uniform_per_image


def _log_uniform(value: Tensor, low: float, high: float) -> Tensor:
    """Map uniform numbers to log-uniform numbers between ``low`` and ``high``."""
    return low * torch.exp(value * math.log(high / low))


def lattice_noise(x: Tensor, y: Tensor, generator: Generator) -> Tensor:
    """Smooth noise around 0, one lattice point per unit of x and y, mirrored at the edges."""
    lattice = torch.rand(len(x), 1, 32, 32, generator=generator, device=x.device) - 0.5
    lattice = F.interpolate(lattice, scale_factor=4, mode="bicubic")
    grid = torch.stack([x / 16, y / 16], dim=-1)
    out = F.grid_sample(lattice, grid, padding_mode="reflection", align_corners=False)
    return out[:, 0] * 2


def fractal_noise(p: Params, x: Tensor, y: Tensor, generator: Generator) -> Tensor:
    """Perlin-like octaves; the formula may stretch, ridge or saturate them."""
    frequency, stretch = _log_uniform(p[0], 1.5, 10), _log_uniform(p[1], 0.2, 5).sqrt()
    angle = p[2] * math.pi
    u = (angle.cos() * x - angle.sin() * y) * frequency * stretch
    v = (angle.sin() * x + angle.cos() * y) * frequency / stretch
    warp = 1.5 * (p[3] - 0.4).clamp_min(0)
    if bool((warp > 0).any()):
        u = u + warp * 4 * lattice_noise(u * 0.5, v * 0.5, generator)
    total, falloff = 0, 0.3 + 0.5 * p[4]
    for octave in range(4):
        layer = lattice_noise(u * 2**octave, v * 2**octave, generator)
        layer = torch.where(p[5] < 0.3, layer.abs() * 2 - 0.5, layer)
        total = total + layer * falloff**octave
    sharpness = torch.where(p[6] < 0.3, 8.0, 1.2)
    return torch.sigmoid(2 * sharpness * (total - 0.4 * (p[7] - 0.5)))


def waves(p: Params, x: Tensor, y: Tensor, generator: Generator) -> Tensor:
    """Gabor-like sums of plane waves, from stripes to speckle."""
    frequency, spread = _log_uniform(p[0], 4, 45), p[1].square() * math.pi
    base = p[2] * math.pi
    total = 0
    phases = uniform_per_image(len(x), 5, generator)
    for i, phase in enumerate(phases):
        angle = base + spread * math.sin(3.7 * i)
        f = frequency * (1 + 0.5 * p[3] * math.sin(5.1 * i))
        total = total + torch.cos(f * (angle.cos() * x + angle.sin() * y) + 2 * math.pi * phase)
    sharpness = _log_uniform(p[4], 0.5, 6)
    return torch.sigmoid(sharpness * (total / 2.2 + p[5] - 0.5))


def wallpaper(p: Params, x: Tensor, y: Tensor, generator: Generator) -> Tensor:
    """Waves averaged over the symmetries of a lattice: the wallpaper groups (Farris)."""
    turns = torch.where(p[0] < 0.25, 3.0, torch.where(p[0] < 0.5, 6.0, 4.0))
    frequency = _log_uniform(p[1], 3, 14)
    a, b = uniform_per_image(len(x), 2, generator)
    u, v = (x + a) * frequency, (y + b) * frequency
    total = 0
    for i in range(3):
        angle = math.pi * (p[2 + i] * 2)
        order = 1 + i * (0.5 + p[5])
        for k in range(3):
            turn = 2 * math.pi * k / turns
            mirrored = torch.where(p[6] < 0.5, 1.0, -1.0) * (k % 2) + (1 - k % 2)
            w = turn.cos() * u + mirrored * turn.sin() * v
            total = total + torch.cos(order * w + angle) / order
    return 0.5 + 0.5 * torch.sin(total * (1 + 2 * p[7]))


def tiles(p: Params, x: Tensor, y: Tensor, generator: Generator) -> Tensor:
    """Bricks, checkers, dots, grids and plain weaves."""
    frequency = _log_uniform(p[0], 1.5, 9)
    a, b = uniform_per_image(len(x), 2, generator)
    u = (x + a) * frequency * _log_uniform(p[1], 0.5, 2)
    v = (y + b) * frequency
    row = v.floor()
    u = u + torch.where(p[2] < 0.4, 0.5 * (row % 2), 0.0)
    column = u.floor()
    s, t = u - column - 0.5, v - row - 0.5
    gap = 0.03 + 0.15 * p[3]
    brick = ((0.5 - torch.maximum(s.abs(), t.abs()) - gap) * 20).clamp(0, 1)
    dots = ((0.15 + 0.3 * p[4] - (s * s + t * t).sqrt()) * 15).clamp(0, 1)
    over = ((column + row) % 2) == 0
    across, along = 1 - (2 * t).abs().pow(3), 1 - (2 * s).abs().pow(3)
    weave = torch.where(over, 0.3 + 0.7 * across, 0.1 + 0.6 * along)
    checker = 0.2 + 0.6 * over
    kind = p[5]
    out = torch.where(kind < 0.3, brick, torch.where(kind < 0.5, dots, weave))
    out = torch.where(kind > 0.85, checker, out)
    shade = torch.sin(column * 12.9898 + row * 78.233 + a * 43.0)
    return (out * (1 - 0.3 * p[6]) + 0.15 * p[6] * shade + 0.1).clamp(0, 1)


def cells(p: Params, x: Tensor, y: Tensor, generator: Generator) -> Tensor:
    """Worley cells: grains, crystals, pebbles, cracked ground."""
    frequency = _log_uniform(p[0], 1.2, 7)
    a, b = uniform_per_image(len(x), 2, generator)
    u, v = (x + 3 * a) * frequency, (y + 3 * b) * frequency
    column, row = u.floor(), v.floor()
    nearest = torch.full_like(x, 9.0)
    second, grain = nearest.clone(), torch.zeros_like(x)
    jitter = 0.2 + 0.8 * p[1]
    for i in (-1, 0, 1):
        for j in (-1, 0, 1):
            c, r = column + i, row + j
            h = torch.sin(c * 127.1 + r * 311.7) * 43.758
            k = torch.sin(c * 269.5 + r * 183.3) * 43.758
            h, k = h - h.floor(), k - k.floor()
            du, dv = c + 0.5 + jitter * (h - 0.5) - u, r + 0.5 + jitter * (k - 0.5) - v
            d = (du * du + dv * dv).sqrt()
            closer = d < nearest
            second = torch.where(closer, nearest, torch.minimum(second, d))
            grain = torch.where(closer, h, grain)
            nearest = torch.minimum(nearest, d)
    edge = ((second - nearest) * _log_uniform(p[2], 2, 20)).clamp(0, 1)
    kind = p[3]
    flat = torch.where(kind < 0.6, grain * edge, edge)
    return torch.where(kind < 0.25, 1 - nearest, flat)


def julia(p: Params, x: Tensor, y: Tensor, generator: Generator) -> Tensor:
    """Escape times of a Julia set whose constant is near the border of the Mandelbrot set."""
    angle = p[0] * 2 * math.pi
    radius = 0.95 + 0.2 * p[1]
    cr = radius * (angle.cos() / 2 - (2 * angle).cos() / 4)
    ci = radius * (angle.sin() / 2 - (2 * angle).sin() / 4)
    zr, zi = x * 1.2, y * 1.2
    escape = torch.zeros_like(x)
    for _ in range(16):
        zr, zi = (zr * zr - zi * zi + cr).clamp(-4, 4), (2 * zr * zi + ci).clamp(-4, 4)
        escape = escape + (zr * zr + zi * zi < 4)
    return 0.5 + 0.5 * torch.sin(escape * (0.2 + 0.6 * p[2]) + 6 * p[3])


def ifs(p: Params, x: Tensor, y: Tensor, generator: Generator) -> Tensor:
    """An iterated function system of three affine maps, drawn by the chaos game."""
    n, size, points, device = len(x), x.shape[-1], 1500, x.device
    numbers = torch.cat(p[:18], dim=1)[:, :, 0].reshape(n, 3, 6)
    matrices = (numbers[:, :, :4] - 0.5).reshape(n, 3, 2, 2) * 1.8
    norm = torch.linalg.matrix_norm(matrices, ord=2)[:, :, None, None]
    matrices = matrices / norm.clamp_min(0.85) * 0.85
    shifts = (numbers[:, :, 4:] - 0.5) * 1.6
    position = torch.rand(n, points, 2, generator=generator, device=device) - 0.5
    rows = torch.arange(n, device=device)[:, None]
    counts = torch.zeros(n, size * size, device=device)
    for step in range(24):
        choice = torch.randint(0, 3, (n, points), generator=generator, device=device)
        position = (matrices[rows, choice] @ position[..., None])[..., 0] + shifts[rows, choice]
        if step >= 8:
            pixel = ((position * 0.4 + 0.5) * size).long().clamp(0, size - 1)
            counts.scatter_add_(
                1, pixel[..., 1] * size + pixel[..., 0], torch.ones_like(position[..., 0])
            )
    density = (counts.reshape(n, 1, size, size) + 1).log() / 3
    grid = torch.stack([x, y], dim=-1)
    return F.grid_sample(density, grid, padding_mode="zeros", align_corners=False)[:, 0].clamp(
        0, 1
    )


def leaves(p: Params, x: Tensor, y: Tensor, generator: Generator) -> Tensor:
    """Dead leaves: discs, squares or diamonds that overlap, with sizes from a power law."""
    out = torch.full_like(x, 0.5)
    power, smallest = 1 + 2 * p[0], _log_uniform(p[1], 0.04, 0.2)
    for _ in range(28):
        a, b, c, d, shade = uniform_per_image(len(x), 5, generator)
        radius = smallest * (1 - 0.98 * c).pow(-1 / power)
        u, v = x - (2.6 * a - 1.3), y - (2.6 * b - 1.3)
        angle = d * math.pi
        s, t = (angle.cos() * u - angle.sin() * v).abs(), (angle.sin() * u + angle.cos() * v).abs()
        distance = torch.where(p[2] < 0.5, (s * s + t * t).sqrt(), torch.maximum(s, t))
        distance = torch.where(p[2] > 0.8, s + 0.5 * t, distance)
        fill = shade * (1 - 0.3 * p[3] * (distance / radius))
        out = torch.where(distance < radius, fill, out)
    return out


def glyphs(p: Params, x: Tensor, y: Tensor, generator: Generator) -> Tensor:
    """Rows of one printed character with four strokes; some cells may be blank."""
    frequency = _log_uniform(p[0], 0.7, 4)
    a, b = uniform_per_image(len(x), 2, generator)
    u, v = (x + a) * frequency, (y + b) * frequency * 0.8
    column, row = u.floor(), v.floor()
    s, t = u - column, v - row
    distance = torch.full_like(x, 9.0)
    for i in range(4):
        x0, y0, x1, y1 = (0.12 + 0.76 * (q * 3).floor() / 2 for q in p[1 + 4 * i : 5 + 4 * i])
        dx, dy = x1 - x0, y1 - y0
        along = ((s - x0) * dx + (t - y0) * dy) / (dx * dx + dy * dy + 1e-6)
        along = along.clamp(0, 1)
        gap = ((s - x0 - along * dx).square() + (t - y0 - along * dy).square()).sqrt()
        distance = torch.minimum(distance, gap)
    ink = ((0.03 + 0.07 * p[17] - distance) * 25 + 0.5).clamp(0, 1)
    blank = torch.sin(column * 91.7 + row * 47.3 + 50 * a) > torch.where(p[18] < 0.5, 0.3, 2.0)
    return torch.where(blank, 0.0, ink)


def gradient(p: Params, x: Tensor, y: Tensor, generator: Generator) -> Tensor:
    """A smooth background: a ramp or a horizon with soft clouds."""
    noise = lattice_noise(
        x * _log_uniform(p[0], 0.5, 2), y * _log_uniform(p[1], 0.5, 2), generator
    )
    ramp = 0.5 + 0.4 * (x * (p[2] - 0.5) + y * (p[3] * 2 - 1)) + 0.4 * p[4] * noise
    horizon = torch.sigmoid((y - 0.6 * (p[5] - 0.5) + 0.1 * noise) * 20)
    return torch.where(p[6] < 0.5, ramp, 0.7 * horizon + 0.3 * ramp).clamp(0, 1)


def network(p: Params, x: Tensor, y: Tensor, generator: Generator) -> Tensor:
    """A small random network of sines of the coordinates, as in shader programs."""
    frequency = _log_uniform(p[0], 1.5, 8)
    a, b = uniform_per_image(len(x), 2, generator)
    u, v = (x + 2 * a - 1) * frequency, (y + 2 * b - 1) * frequency
    noise = 4 * p[1] * lattice_noise(u * 0.4, v * 0.4, generator)
    layer = torch.stack([u, v, (u * u + v * v).sqrt(), noise], dim=1)
    numbers, units = torch.cat(p[2:18], dim=1)[:, :, 0], 6
    for depth in range(3):
        inputs = layer.shape[1]
        index = torch.arange(units * (inputs + 1), device=x.device)
        # more weights than the sixteen numbers: each is used at several frequencies
        phases = numbers[:, index % 16] * (97 + 31 * depth + 7.3 * index)
        weight = 1.7 * torch.sin(phases).reshape(-1, units, inputs + 1)
        gain = (1.8 if depth else 1) / math.sqrt(inputs)
        layer = gain * torch.einsum("nki,nihw->nkhw", weight[:, :, :-1], layer)
        layer = torch.sin(layer + 3 * weight[:, :, -1, None, None])
    return (0.5 + 0.65 * layer[:, :3].mean(dim=1)).clamp(0, 1)


TEXTURES = [
    network,
    network,
    fractal_noise,
    waves,
    wallpaper,
    tiles,
    cells,
    julia,
    ifs,
    leaves,
    glyphs,
    gradient,
]
