"""Procedurally generated images: what the embedded backbone is trained on.

An image is drawn from a *formula*, a row of uniform numbers, and from chance. The formula says
which textures and shapes there are and in what colours; chance says where they lie and how they
are lit and photographed. Images of one formula are thus of one kind. Everything is
drawn in batches, on the device of the formulas, from a given ``torch.Generator``.
"""

import math

import torch
import torch.nn.functional as F

from .chance import uniform
from .shapes import SHAPES
from .textures import TEXTURES, lattice_noise

N_NUMBERS = 96
# which numbers of a formula say what
LAYOUT, FORE, BACK, SHAPE = slice(0, 8), slice(8, 28), slice(28, 48), slice(48, 72)
FORE_COLOURS, BACK_COLOURS = slice(72, 84), slice(84, 96)


def draw_formulas(n, generator, device="cpu"):
    """Draw ``n`` formulas, uniform numbers (n, 96)."""
    return torch.rand(n, N_NUMBERS, generator=generator, device=device)


def render(formulas, size, generator):
    """Draw one image of each formula, float tensor (n, 3, size, size), values 0 to 1.

    Three layouts: a texture alone, a shape on a textured ground, and a shape on a ground that
    chance changes, so that only the shape tells the formula. Some grounds are divided in two, and
    on some lie up to three lesser things.
    """
    n = len(formulas)
    layout, other = formulas[:, LAYOUT], uniform(n, N_NUMBERS, generator)
    loose = (layout[:, 0] > 0.75)[:, None]
    ground = torch.where(loose, other, formulas)
    x, y = _coordinates(n, size, layout, generator)
    image = _ground(ground, x, y, generator)
    divided = (layout[:, 5] < 0.4).nonzero()[:, 0]
    if len(divided):
        own, u, v = ground[divided], x[divided], y[divided]
        beyond = _ground(own.roll(37, dims=1), u, v, generator)
        cover = border(own[:, LAYOUT], u, v, generator)
        image[divided] += cover * (beyond - image[divided])
    for lesser in range(3):
        chosen = (layout[:, 6] < 0.6 - 0.15 * lesser).nonzero()[:, 0]
        if len(chosen):
            own = formulas[chosen].roll(53 + 17 * lesser, dims=1)
            place = uniform(len(chosen), 3, generator)[:, :, None, None].unbind(1)
            zoom = 1.3 + 1.5 * place[2]
            u = (x[chosen] - 1.6 * (place[0] - 0.5)) * zoom
            v = (y[chosen] - 1.6 * (place[1] - 0.5)) * zoom
            image[chosen] = put_thing(image[chosen], own, u, v, generator)
    chosen = (layout[:, 0] > 0.35).nonzero()[:, 0]
    if len(chosen):
        own, u, v = formulas[chosen], x[chosen], y[chosen]
        image[chosen] = put_thing(image[chosen], own, u, v, generator)
    return image.clamp_(0, 1)


def _ground(numbers, x, y, generator):
    """A coloured texture (n, 3, H, W)."""
    field = _by_kind(TEXTURES, numbers[:, BACK], x, y, generator)
    return _coloured(field, numbers[:, BACK_COLOURS])


def border(layout, x, y, generator):
    """How far each pixel (n, 1, H, W) is beyond an uneven border, 0 to 1: sharp or soft."""
    p = layout[:, :, None, None].unbind(1)
    turn = torch.where(p[7] < 0.3, math.pi * p[3], 0.0)
    rough = 1 + 6 * p[6]
    edge = turn.cos() * y + turn.sin() * x - 0.6 * (p[1] - 0.5)
    edge = edge + p[2] * lattice_noise(x * rough, y * rough, generator)
    return torch.sigmoid(edge * x.shape[-1] / 2 * (0.1 + p[4].square()))[:, None]


def put_thing(image, numbers, x, y, generator):
    """Put a lit shape of a texture of its own, or nearly plain, over the image."""
    height = _by_kind(SHAPES, numbers[:, SHAPE], x, y, generator)[:, None]
    zoom = 1 + numbers[:, 1, None, None]
    inner = _by_kind(TEXTURES, numbers[:, FORE], x * zoom, y * zoom, generator)
    plain = (numbers[:, 2] < 0.4)[:, None, None]
    inner = torch.where(plain, 0.5 + 0.15 * (inner - 0.5), inner)
    fore = _shade(_coloured(inner, numbers[:, FORE_COLOURS]), height, numbers[:, 3], generator)
    cover = (height * x.shape[-1] / 3).clamp(0, 1)
    return image + cover * (fore - image)


def _coordinates(n, size, layout, generator):
    """Pixel coordinates, -1 to 1, moved by chance; some formulas stand upright, some turn."""
    axis = (torch.arange(size, device=layout.device) + 0.5) / size * 2 - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    chance = uniform(n, 6, generator)[:, :, None, None].unbind(1)
    free = (layout[:, 4] < 0.2)[:, None, None]
    angle = (chance[0] - 0.5) * torch.where(free, 2 * math.pi, 0.5)
    scale = torch.exp((chance[1] - 0.5) * 0.6)
    stretch = torch.exp((chance[2] - 0.5) * 0.3)
    mirror = 1 - 2 * (chance[3] < 0.5).float()
    cos, sin = angle.cos() * scale, angle.sin() * scale
    u = (cos * x - sin * y) * stretch * mirror + (chance[4] - 0.5) * 0.5
    return u, (sin * x + cos * y) / stretch + (chance[5] - 0.5) * 0.5


def _by_kind(functions, numbers, x, y, generator):
    """Apply to each row the function that its first number names; returns (n, H, W)."""
    out = torch.empty_like(x)
    kinds = (numbers[:, 0] * len(functions)).long()
    for kind, function in enumerate(functions):
        rows = (kinds == kind).nonzero()[:, 0]
        if len(rows):
            own = numbers[rows, 1:, None, None].unbind(1)
            out[rows] = function(own, x[rows], y[rows], generator)
    return out


def _coloured(field, numbers):
    """Map a field (n, H, W), 0 to 1, through each formula's palette of four colours."""
    colours = numbers.reshape(-1, 4, 3)
    gray = numbers[:, :1, None] < 0.3
    spread = 0.3 + 0.7 * numbers[:, 1, None, None]
    colours = torch.where(gray, colours.mean(dim=2, keepdim=True), colours)
    middle = colours.mean(dim=1, keepdim=True)
    colours = middle + spread * (colours - middle)
    position = field.clamp(0, 1)[:, None] * 3
    return sum(
        colours[:, i, :, None, None] * (1 - (position - i).abs()).clamp_min(0) for i in range(4)
    )


def _shade(image, height, gloss, generator):
    """Light a relief: Lambert shading and a highlight, the light's direction by chance."""
    padded = F.pad(height, (1, 1, 1, 1), mode="replicate")
    steep = height.shape[-1] / 4
    dx = (padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]) * steep
    dy = (padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]) * steep
    chance = uniform(len(image), 2, generator)[:, :, None, None, None].unbind(1)
    turn, tilt = chance[0] * 2 * math.pi, 0.4 + 0.6 * chance[1]
    length = (dx.square() + dy.square() + 1).sqrt()
    light = (tilt - (1 - 0.5 * tilt) * (dx * turn.cos() + dy * turn.sin())) / length
    gloss = gloss[:, None, None, None]
    shine = gloss * light.clamp(0, 1).pow(8)
    return (image * (0.35 + 0.9 * light.clamp(0, 1)) + 0.6 * shine).clamp(0, 1)


def photograph(images, size, generator):
    """Take a photograph of each image: framing, uneven light, exposure, blur, noise.

    Returns (n, 3, size, size), values 0 to 1. The images come in random order, so each of three
    eighths of the batch gets one blur: few distinct sizes, few calls.
    """
    n, device = len(images), images.device
    chance = uniform(n, 12, generator)
    zoom = (0.45 + 0.55 * chance[:, 0]).sqrt()
    stretch = torch.exp((chance[:, 1] - 0.5) * 0.3)
    mirror = 1 - 2 * (chance[:, 2] < 0.5).float()
    frame = torch.zeros(n, 2, 3, device=device)
    frame[:, 0, 0], frame[:, 1, 1] = (zoom * stretch).clamp_max(1) * mirror, zoom / stretch
    frame[:, :, 2] = (chance[:, 3:5] * 2 - 1) * (1 - zoom)[:, None]
    grid = F.affine_grid(frame, (n, 3, size, size), align_corners=False)
    out = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    for part, factor in enumerate((0.25, 0.4, 0.6)):
        rows, small = slice(part * n // 8, (part + 1) * n // 8), int(size * factor)
        if len(out[rows]):
            reduced = F.interpolate(out[rows], (small, small), mode="area")
            out[rows] = F.interpolate(reduced, (size, size), mode="bilinear")
    axis = torch.linspace(-1, 1, size, device=device)
    gain = torch.exp(chance[:, 5] - 0.5)[:, None]
    balance = gain * torch.exp((uniform(n, 3, generator) - 0.5) * 0.6)
    tilt = (chance[:, 6:8, None, None] - 0.5) * 0.5
    slope = 1 + tilt[:, :1] * axis + tilt[:, 1:] * axis[:, None]
    contrast = (0.4 + 0.6 * chance[:, 8])[:, None, None, None]
    mean = out.mean(dim=(2, 3), keepdim=True)
    out = mean + (out - mean) * contrast
    out = out * (slope * balance[:, :, None, None])
    grain = 0.03 * chance[:, 9, None, None, None].square()
    noise = torch.randn(n, 1, size, size, generator=generator, device=device)
    return (out + grain * noise).clamp_(0, 1)


def recolour(images, share, generator):
    """Turn the hue and change the saturation of a share of the images, some to gray.

    Where the hue is not turned all round, it is by a tenth of that.
    """
    n, device = len(images), images.device
    chosen, gray, saturation, turn, round_ = uniform(n, 5, generator)[:, :, None, None].unbind(1)
    saturation = torch.where(gray < 0.3, 0.0, 1.2 * saturation)
    angle = (turn - 0.5) * 2 * math.pi * torch.where(round_ < 0.5, 1.0, 0.1)
    same = torch.eye(3, device=device)
    mean = torch.full((3, 3), 1 / 3, device=device)
    cross = (same.roll(1, 0) - same.roll(-1, 0)) / math.sqrt(3)
    turned = angle.cos() * same + angle.sin() * cross + (1 - angle.cos()) * mean
    matrix = torch.where(chosen < share, mean + saturation * (turned - mean), same)
    return torch.einsum("nij,njhw->nihw", matrix, images).clamp_(0, 1)


def sheet(seed, rows, size=96):
    """Return a picture (PIL) of photographs, four of each formula, four formulas a row."""
    from PIL import Image

    generator = torch.Generator().manual_seed(seed)
    formulas = draw_formulas(rows * 4, generator).repeat_interleave(4, dim=0)
    order = torch.randperm(len(formulas), generator=generator)
    drawn = photograph(render(formulas, size, generator)[order], size, generator)
    drawn = recolour(drawn, 0.8, generator)
    images = torch.empty_like(drawn)
    images[order] = drawn
    grid = images.reshape(rows, 16, 3, size, size).permute(0, 3, 1, 4, 2)
    return Image.fromarray((grid.reshape(rows * size, 16 * size, 3) * 255).round().byte().numpy())


if __name__ == "__main__":
    sheet(seed=0, rows=4).save("pretraining.jpg", quality=85)
