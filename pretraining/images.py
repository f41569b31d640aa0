"""Procedurally generated images for training the embedded backbone.

An image is generated from a *formula*, a row of uniform numbers, and from a random generator. The
formula determines the textures, the shapes and their colours. The generator determines their
position, the light and the photograph. Images of one formula are therefore of one kind. All images
are generated in batches, on the device of the formulas.
"""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from .chance import uniform, uniform_per_image
from .shapes import SHAPES
from .textures import TEXTURES, lattice_noise

if TYPE_CHECKING:
    from PIL import Image

N_NUMBERS = 96
# the meaning of the numbers of a formula
LAYOUT, FOREGROUND, BACKGROUND, SHAPE = slice(0, 8), slice(8, 28), slice(28, 48), slice(48, 72)
FOREGROUND_COLOURS, BACKGROUND_COLOURS = slice(72, 84), slice(84, 96)


def draw_formulas(n: int, generator: Generator, device: str | torch.device = "cpu") -> Tensor:
    """Draw ``n`` formulas, uniform numbers (n, 96)."""
    return torch.rand(n, N_NUMBERS, generator=generator, device=device)


def render(formulas: Tensor, size: int, generator: Generator) -> Tensor:
    """Render one image of each formula, float tensor (n, 3, size, size), values 0 to 1.

    There are three layouts: a texture alone, a shape on a textured background, and a shape on a
    random background, so that only the shape identifies the formula. Some backgrounds are divided
    in two. Some have up to three smaller shapes.
    """
    n = len(formulas)
    layout, random_formulas = formulas[:, LAYOUT], uniform(n, N_NUMBERS, generator)
    random_background = (layout[:, 0] > 0.75)[:, None]
    background = torch.where(random_background, random_formulas, formulas)
    x, y = _coordinates(n, size, layout, generator)
    image = _render_background(background, x, y, generator)
    rows = (layout[:, 5] < 0.4).nonzero()[:, 0]
    if len(rows):
        numbers, u, v = background[rows], x[rows], y[rows]
        second_background = _render_background(numbers.roll(37, dims=1), u, v, generator)
        coverage = border_coverage(numbers[:, LAYOUT], u, v, generator)
        image[rows] += coverage * (second_background - image[rows])
    for i in range(3):
        rows = (layout[:, 6] < 0.6 - 0.15 * i).nonzero()[:, 0]
        if len(rows):
            numbers = formulas[rows].roll(53 + 17 * i, dims=1)
            place = uniform_per_image(len(rows), 3, generator)
            zoom = 1.3 + 1.5 * place[2]
            u = (x[rows] - 1.6 * (place[0] - 0.5)) * zoom
            v = (y[rows] - 1.6 * (place[1] - 0.5)) * zoom
            image[rows] = add_shape(image[rows], numbers, u, v, generator)
    rows = (layout[:, 0] > 0.35).nonzero()[:, 0]
    if len(rows):
        numbers, u, v = formulas[rows], x[rows], y[rows]
        image[rows] = add_shape(image[rows], numbers, u, v, generator)
    return image.clamp_(0, 1)


def _render_background(numbers: Tensor, x: Tensor, y: Tensor, generator: Generator) -> Tensor:
    """Return a coloured texture (n, 3, H, W)."""
    texture = _apply_by_kind(TEXTURES, numbers[:, BACKGROUND], x, y, generator)
    return _apply_palette(texture, numbers[:, BACKGROUND_COLOURS])


def border_coverage(layout: Tensor, x: Tensor, y: Tensor, generator: Generator) -> Tensor:
    """Return how far each pixel (n, 1, H, W) is beyond an uneven border, 0 to 1.

    The border may be sharp or soft.
    """
    p = layout[:, :, None, None].unbind(1)
    angle = torch.where(p[7] < 0.3, math.pi * p[3], 0.0)
    roughness = 1 + 6 * p[6]
    distance = angle.cos() * y + angle.sin() * x - 0.6 * (p[1] - 0.5)
    distance = distance + p[2] * lattice_noise(x * roughness, y * roughness, generator)
    return torch.sigmoid(distance * x.shape[-1] / 2 * (0.1 + p[4].square()))[:, None]


def add_shape(
    image: Tensor, numbers: Tensor, x: Tensor, y: Tensor, generator: Generator
) -> Tensor:
    """Put a shaded shape over the image; it has its own texture or is nearly plain."""
    height = _apply_by_kind(SHAPES, numbers[:, SHAPE], x, y, generator)[:, None]
    zoom = 1 + numbers[:, 1, None, None]
    texture = _apply_by_kind(TEXTURES, numbers[:, FOREGROUND], x * zoom, y * zoom, generator)
    plain = (numbers[:, 2] < 0.4)[:, None, None]
    texture = torch.where(plain, 0.5 + 0.15 * (texture - 0.5), texture)
    coloured = _apply_palette(texture, numbers[:, FOREGROUND_COLOURS])
    foreground = _shade(coloured, height, numbers[:, 3], generator)
    coverage = (height * x.shape[-1] / 3).clamp(0, 1)
    return image + coverage * (foreground - image)


def _coordinates(n: int, size: int, layout: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """Return randomly transformed pixel coordinates, -1 to 1.

    Images of some formulas are turned by any angle, those of others stay nearly upright.
    """
    axis = (torch.arange(size, device=layout.device) + 0.5) / size * 2 - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    random = uniform_per_image(n, 6, generator)
    any_angle = (layout[:, 4] < 0.2)[:, None, None]
    angle = (random[0] - 0.5) * torch.where(any_angle, 2 * math.pi, 0.5)
    scale = torch.exp((random[1] - 0.5) * 0.6)
    stretch = torch.exp((random[2] - 0.5) * 0.3)
    mirror = 1 - 2 * (random[3] < 0.5).float()
    cos, sin = angle.cos() * scale, angle.sin() * scale
    u = (cos * x - sin * y) * stretch * mirror + (random[4] - 0.5) * 0.5
    return u, (sin * x + cos * y) / stretch + (random[5] - 0.5) * 0.5


def _apply_by_kind(
    functions: Sequence[Callable[..., Tensor]],
    numbers: Tensor,
    x: Tensor,
    y: Tensor,
    generator: Generator,
) -> Tensor:
    """Apply to each row the function that its first number selects; returns (n, H, W)."""
    out = torch.empty_like(x)
    kinds = (numbers[:, 0] * len(functions)).long()
    for kind, function in enumerate(functions):
        rows = (kinds == kind).nonzero()[:, 0]
        if len(rows):
            p = numbers[rows, 1:, None, None].unbind(1)
            out[rows] = function(p, x[rows], y[rows], generator)
    return out


def _apply_palette(texture: Tensor, numbers: Tensor) -> Tensor:
    """Map a texture (n, H, W), 0 to 1, through each formula's palette of four colours."""
    colours = numbers.reshape(-1, 4, 3)
    gray = numbers[:, :1, None] < 0.3
    spread = 0.3 + 0.7 * numbers[:, 1, None, None]
    colours = torch.where(gray, colours.mean(dim=2, keepdim=True), colours)
    mean = colours.mean(dim=1, keepdim=True)
    colours = mean + spread * (colours - mean)
    position = texture.clamp(0, 1)[:, None] * 3
    return sum(
        colours[:, i, :, None, None] * (1 - (position - i).abs()).clamp_min(0) for i in range(4)
    )


def _shade(image: Tensor, height: Tensor, gloss: Tensor, generator: Generator) -> Tensor:
    """Light a relief from a random direction: Lambert shading and a highlight."""
    padded = F.pad(height, (1, 1, 1, 1), mode="replicate")
    steepness = height.shape[-1] / 4
    dx = (padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]) * steepness
    dy = (padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]) * steepness
    random = uniform(len(image), 2, generator)[:, :, None, None, None].unbind(1)
    angle, tilt = random[0] * 2 * math.pi, 0.4 + 0.6 * random[1]
    length = (dx.square() + dy.square() + 1).sqrt()
    light = (tilt - (1 - 0.5 * tilt) * (dx * angle.cos() + dy * angle.sin())) / length
    gloss = gloss[:, None, None, None]
    highlight = gloss * light.clamp(0, 1).pow(8)
    return (image * (0.35 + 0.9 * light.clamp(0, 1)) + 0.6 * highlight).clamp(0, 1)


def photograph(images: Tensor, size: int, generator: Generator) -> Tensor:
    """Take a photograph of each image: framing, uneven light, exposure, blur, noise.

    Returns (n, 3, size, size), values 0 to 1. The images must be in random order. Three eighths of
    the batch are blurred, each eighth by the same amount, so that few calls are needed.
    """
    n, device = len(images), images.device
    random = uniform(n, 12, generator)
    zoom = (0.45 + 0.55 * random[:, 0]).sqrt()
    stretch = torch.exp((random[:, 1] - 0.5) * 0.3)
    mirror = 1 - 2 * (random[:, 2] < 0.5).float()
    frame = torch.zeros(n, 2, 3, device=device)
    frame[:, 0, 0], frame[:, 1, 1] = (zoom * stretch).clamp_max(1) * mirror, zoom / stretch
    frame[:, :, 2] = (random[:, 3:5] * 2 - 1) * (1 - zoom)[:, None]
    grid = F.affine_grid(frame, (n, 3, size, size), align_corners=False)
    out = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    for i, factor in enumerate((0.25, 0.4, 0.6)):
        rows, small = slice(i * n // 8, (i + 1) * n // 8), int(size * factor)
        if len(out[rows]):
            reduced = F.interpolate(out[rows], (small, small), mode="area")
            out[rows] = F.interpolate(reduced, (size, size), mode="bilinear")
    axis = torch.linspace(-1, 1, size, device=device)
    gain = torch.exp(random[:, 5] - 0.5)[:, None]
    balance = gain * torch.exp((uniform(n, 3, generator) - 0.5) * 0.6)
    tilt = (random[:, 6:8, None, None] - 0.5) * 0.5
    slope = 1 + tilt[:, :1] * axis + tilt[:, 1:] * axis[:, None]
    contrast = (0.4 + 0.6 * random[:, 8])[:, None, None, None]
    mean = out.mean(dim=(2, 3), keepdim=True)
    out = mean + (out - mean) * contrast
    out = out * (slope * balance[:, :, None, None])
    grain = 0.03 * random[:, 9, None, None, None].square()
    noise = torch.randn(n, 1, size, size, generator=generator, device=device)
    return (out + grain * noise).clamp_(0, 1)


def recolour(images: Tensor, share: float, generator: Generator) -> Tensor:
    """Turn the hue and change the saturation of a share of the images; make some gray.

    The hue is turned by any angle or, for half of the images, by at most a tenth of that.
    """
    n, device = len(images), images.device
    selection, gray, saturation, turn, turn_range = uniform_per_image(n, 5, generator)
    saturation = torch.where(gray < 0.3, 0.0, 1.2 * saturation)
    angle = (turn - 0.5) * 2 * math.pi * torch.where(turn_range < 0.5, 1.0, 0.1)
    identity = torch.eye(3, device=device)
    mean = torch.full((3, 3), 1 / 3, device=device)
    cross = (identity.roll(1, 0) - identity.roll(-1, 0)) / math.sqrt(3)
    rotation = angle.cos() * identity + angle.sin() * cross + (1 - angle.cos()) * mean
    matrix = torch.where(selection < share, mean + saturation * (rotation - mean), identity)
    return torch.einsum("nij,njhw->nihw", matrix, images).clamp_(0, 1)


def contact_sheet(seed: int, rows: int, size: int = 96) -> "Image.Image":
    """Return an image (PIL) of photographs, four of each formula, four formulas a row."""
    from PIL import Image

    generator = torch.Generator().manual_seed(seed)
    formulas = draw_formulas(rows * 4, generator).repeat_interleave(4, dim=0)
    order = torch.randperm(len(formulas), generator=generator)
    shuffled = photograph(render(formulas, size, generator)[order], size, generator)
    shuffled = recolour(shuffled, 0.8, generator)
    images = torch.empty_like(shuffled)
    images[order] = shuffled
    grid = images.reshape(rows, 16, 3, size, size).permute(0, 3, 1, 4, 2)
    return Image.fromarray((grid.reshape(rows * size, 16 * size, 3) * 255).round().byte().numpy())


if __name__ == "__main__":
    contact_sheet(seed=0, rows=4).save("pretraining.jpg", quality=85)
