"""Views of normal images and synthesised anomalies.

Every function maps a batch of images ``(n, C, H, W)`` with values 0 to 1 to a new batch of the
same shape, on the same device. Random values are drawn for each image, from the
``torch.Generator`` that is passed. The global random state is neither read nor written.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

__all__ = [
    "crack",
    "cutpaste",
    "noise_texture",
    "patch_shuffle",
    "random_views",
    "rotation",
    "smudge",
    "warp",
]


def _uniform(
    images: torch.Tensor,
    low: float,
    high: float,
    generator: torch.Generator,
    shape: tuple[int, ...] = (),
) -> torch.Tensor:
    """Draw one value (or one array of ``shape``) per image."""
    size = (len(images), *shape)
    draws = torch.rand(size, generator=generator, device=images.device, dtype=images.dtype)
    return low + (high - low) * draws


def _coordinates(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return x and y of the pixels, each (1, H, W), from the center, per shorter side."""
    height, width = images.shape[-2:]
    x = (torch.arange(width, device=images.device, dtype=images.dtype) + 0.5) - width / 2
    y = (torch.arange(height, device=images.device, dtype=images.dtype) + 0.5) - height / 2
    short = min(height, width)
    return (x / short).expand(1, height, width), (y[:, None] / short).expand(1, height, width)


def _sample(images: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Read images at coordinates like those of ``_coordinates``; the border is mirrored."""
    height, width = images.shape[-2:]
    short = min(height, width)
    grid = torch.stack([x * (2 * short / width), y * (2 * short / height)], dim=-1)
    return F.grid_sample(
        images, grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )


def random_views(
    images: torch.Tensor,
    *,
    generator: torch.Generator | None = None,
    degrees: float = 5.0,
    translate: float = 0.05,
    scale: float = 0.1,
    flip: float = 0.5,
    brightness: float = 0.1,
    contrast: float = 0.1,
) -> torch.Tensor:
    """Draw one view of each image: a mild affine map, a mirror image and a change of light.

    The defaults are specific to this package. They are mild, so that a view of a normal image is
    still a plausible normal image, because the density is fitted on views and defects can be
    subtle.

    Parameters
    ----------
    images : float tensor of shape (n, C, H, W)
        Values 0 to 1.
    generator : torch.Generator, default=None
        Source of randomness, on the device of the images. None draws a fresh seed.
    degrees : float, default=5.0
        Maximum rotation in degrees, in either direction.
    translate : float, default=0.05
        Maximum shift, as a share of the shorter side.
    scale : float, default=0.1
        Maximum relative change of size.
    flip : float, default=0.5
        Probability of a left-right mirror image.
    brightness : float, default=0.1
        Maximum value that is added or subtracted.
    contrast : float, default=0.1
        Maximum relative change of the deviation from the mean of the image.

    Returns
    -------
    tensor of shape (n, C, H, W)
        The views, with values 0 to 1.

    Examples
    --------
    >>> import torch
    >>> from skcoft.augmentation import random_views
    >>> images = torch.rand(4, 3, 32, 48)
    >>> random_views(images, generator=torch.Generator().manual_seed(0)).shape
    torch.Size([4, 3, 32, 48])
    """
    generator = _seeded_generator(images, generator)
    angle = _uniform(images, -math.radians(degrees), math.radians(degrees), generator, (1, 1))
    size = _uniform(images, 1 - scale, 1 + scale, generator, (1, 1))
    shift_x, shift_y = _uniform(images, -translate, translate, generator, (2, 1, 1)).unbind(1)
    mirror = 1 - 2 * (_uniform(images, 0, 1, generator, (1, 1)) < flip).to(images)
    x, y = _coordinates(images)
    cos, sin = angle.cos() / size, angle.sin() / size
    views = _sample(images, mirror * (cos * x - sin * y) + shift_x, sin * x + cos * y + shift_y)
    gain = _uniform(images, 1 - contrast, 1 + contrast, generator, (1, 1, 1))
    light = _uniform(images, -brightness, brightness, generator, (1, 1, 1))
    mean = views.mean(dim=(1, 2, 3), keepdim=True)
    return ((views - mean) * gain + mean + light).clamp_(0, 1)


def cutpaste(images: torch.Tensor, *, generator: torch.Generator | None = None) -> torch.Tensor:
    """Paste a piece of each image elsewhere in it: a patch, or a thin rotated scar.

    Half of the pieces are patches (2 to 15 % of the area, side ratio 1/3 to 3). The other half are
    scars (1 to 6 % wide, 10 to 40 % long, any angle). The brightness of a piece changes by up to
    ±0.15 [1]_.

    Parameters
    ----------
    images : float tensor of shape (n, C, H, W)
        Values 0 to 1.
    generator : torch.Generator, default=None
        Source of randomness, on the device of the images. None draws a fresh seed.

    Returns
    -------
    tensor of shape (n, C, H, W)
        The synthesised anomalies.

    References
    ----------
    .. [1] Li et al., "CutPaste: Self-Supervised Learning for Anomaly Detection and
       Localization", CVPR 2021, arXiv 2104.04015.

    Examples
    --------
    >>> import torch
    >>> from skcoft.augmentation import cutpaste
    >>> images = torch.rand(4, 3, 32, 32)
    >>> anomalies = cutpaste(images, generator=torch.Generator().manual_seed(0))
    >>> bool((anomalies != images).any(dim=(1, 2, 3)).all())
    True
    """
    generator = _seeded_generator(images, generator)
    is_scar = _uniform(images, 0, 1, generator) < 0.5
    area = _uniform(images, 0.02, 0.15, generator)
    ratio = torch.exp(_uniform(images, -math.log(3), math.log(3), generator))
    length = _uniform(images, 0.1, 0.4, generator)
    thickness = _uniform(images, 0.01, 0.06, generator)
    width = torch.where(is_scar, length, (area * ratio).sqrt())[:, None, None]
    height = torch.where(is_scar, thickness, (area / ratio).sqrt())[:, None, None]
    angle = _uniform(images, 0, math.pi, generator) * is_scar
    x, y = _coordinates(images)
    target, reach = _draw_centers(images, x, y, generator)
    move = _uniform(images, 0, 1, generator, (2,)) * reach + 0.2 * reach
    source = torch.where(target > 0, target - move, target + move)
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    dx, dy = x - target[:, 0, None, None], y - target[:, 1, None, None]
    inside = ((cos * dx + sin * dy).abs() < width / 2) & ((cos * dy - sin * dx).abs() < height / 2)
    pasted = _sample(images, dx + source[:, 0, None, None], dy + source[:, 1, None, None])
    pasted = pasted + _uniform(images, -0.15, 0.15, generator, (1, 1, 1))
    return torch.where(inside[:, None], pasted.clamp_(0, 1), images)


def rotation(images: torch.Tensor, *, generator: torch.Generator | None = None) -> torch.Tensor:
    """Rotate each image by 90, 180 or 270 degrees, stretched to fit if it is not square.

    Rotated images are useful negatives if all images are upright [1]_.

    Parameters
    ----------
    images : float tensor of shape (n, C, H, W)
        Values 0 to 1.
    generator : torch.Generator, default=None
        Source of randomness, on the device of the images. None draws a fresh seed.

    Returns
    -------
    tensor of shape (n, C, H, W)
        The rotated images.

    References
    ----------
    .. [1] Tack et al., "CSI: Novelty Detection via Contrastive Learning on Distributionally
       Shifted Instances", NeurIPS 2020, arXiv 2007.08176.

    Examples
    --------
    >>> import torch
    >>> from skcoft.augmentation import rotation
    >>> rotation(torch.rand(4, 3, 32, 48)).shape
    torch.Size([4, 3, 32, 48])
    """
    generator = _seeded_generator(images, generator)
    turns = torch.randint(1, 4, (len(images),), generator=generator, device=images.device)
    out = images.flip(2, 3)
    for quarter in (1, 3):
        turned = torch.rot90(images[turns == quarter], quarter, (2, 3))
        out[turns == quarter] = F.interpolate(turned, images.shape[-2:], mode="bilinear")
    return out


def patch_shuffle(
    images: torch.Tensor, *, generator: torch.Generator | None = None, grid: int = 4
) -> torch.Tensor:
    """Shuffle the tiles of each image, ``grid`` × ``grid`` of them.

    Parameters
    ----------
    images : float tensor of shape (n, C, H, W)
        Values 0 to 1. H and W are at least ``grid``.
    generator : torch.Generator, default=None
        Source of randomness, on the device of the images. None draws a fresh seed.
    grid : int, default=4
        Number of tiles along each side. Rows and columns beyond a multiple of it stay in place.

    Returns
    -------
    tensor of shape (n, C, H, W)
        The shuffled images.

    Examples
    --------
    >>> import torch
    >>> from skcoft.augmentation import patch_shuffle
    >>> images = torch.rand(2, 1, 8, 8)
    >>> shuffled = patch_shuffle(images, generator=torch.Generator().manual_seed(0))
    >>> bool((shuffled.flatten().sort()[0] == images.flatten().sort()[0]).all())
    True
    """
    generator = _seeded_generator(images, generator)
    n, channels = images.shape[:2]
    height, width = images.shape[2] // grid, images.shape[3] // grid
    out = images.clone()
    region = out[:, :, : height * grid, : width * grid]
    tiles = region.reshape(n, channels, grid, height, grid, width).permute(0, 2, 4, 1, 3, 5)
    order = _uniform(images, 0, 1, generator, (grid * grid,)).argsort(dim=1)
    tiles = tiles.reshape(n, grid * grid, -1)
    tiles = tiles.gather(1, order[:, :, None].expand_as(tiles))
    tiles = tiles.reshape(n, grid, grid, channels, height, width).permute(0, 3, 1, 4, 2, 5)
    region.copy_(tiles.reshape(region.shape))
    return out


def noise_texture(
    images: torch.Tensor, *, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Blend smooth random colours into a blob of smooth random shape.

    The blob covers 2 to 15 % of the image, with an opacity of 0.3 to 1. This is similar to DRAEM
    [1]_, with noise instead of textures of other images.

    Parameters
    ----------
    images : float tensor of shape (n, C, H, W)
        Values 0 to 1.
    generator : torch.Generator, default=None
        Source of randomness, on the device of the images. None draws a fresh seed.

    Returns
    -------
    tensor of shape (n, C, H, W)
        The synthesised anomalies.

    References
    ----------
    .. [1] Zavrtanik et al., "DRAEM - A Discriminatively Trained Reconstruction Embedding for
       Surface Anomaly Detection", ICCV 2021, arXiv 2108.07610.

    Examples
    --------
    >>> import torch
    >>> from skcoft.augmentation import noise_texture
    >>> images = torch.rand(4, 3, 32, 32)
    >>> anomalies = noise_texture(images, generator=torch.Generator().manual_seed(0))
    >>> bool((anomalies != images).any(dim=(1, 2, 3)).all())
    True
    """
    generator = _seeded_generator(images, generator)
    inside = _blob_masks(images, 0.02, 0.15, generator)
    texture = _smooth_noise(images, images.shape[1], (4, 16, 32), generator).mul_(0.5).add_(0.5)
    opacity = _uniform(images, 0.3, 1, generator, (1, 1, 1)) * inside
    return images + opacity * (texture.clamp_(0, 1) - images)


def crack(images: torch.Tensor, *, generator: torch.Generator | None = None) -> torch.Tensor:
    """Draw a thin, jagged line on each image that is darker or lighter than the image.

    The line has eight strokes. It is 15 to 60 % of the shorter side long, and 0.6 to 2.5 % of it
    wide, but at least one pixel. Three of four lines are darker by 0.15 to 0.6, the others are
    lighter. If the image is too dark or too light for that, it is the other way round.

    Parameters
    ----------
    images : float tensor of shape (n, C, H, W)
        Values 0 to 1.
    generator : torch.Generator, default=None
        Source of randomness, on the device of the images. None draws a fresh seed.

    Returns
    -------
    tensor of shape (n, C, H, W)
        The synthesised anomalies.

    Examples
    --------
    >>> import torch
    >>> from skcoft.augmentation import crack
    >>> images = torch.rand(4, 3, 32, 32)
    >>> anomalies = crack(images, generator=torch.Generator().manual_seed(0))
    >>> bool((anomalies != images).any(dim=(1, 2, 3)).all())
    True
    """
    generator = _seeded_generator(images, generator)
    strokes = 8
    x, y = _coordinates(images)
    length = _uniform(images, 0.15, 0.6, generator, (1,)) / strokes
    heading = _uniform(images, 0, 2 * math.pi, generator, (1,))
    bends = _uniform(images, -0.6, 0.6, generator, (strokes,)).cumsum(dim=1)
    steps = torch.stack([(heading + bends).cos(), (heading + bends).sin()], dim=2)
    path = (steps * length[:, :, None]).cumsum(dim=1)
    middle = _draw_centers(images, x, y, generator)[0] - path[:, strokes // 2]
    ends = path + middle[:, None]
    starts = torch.cat([middle[:, None], ends[:, :-1]], dim=1)
    nearest = torch.full_like(images[:, 0], torch.inf)
    for start, end in zip(starts.unbind(1), ends.unbind(1), strict=True):
        from_x, from_y = x - start[:, 0, None, None], y - start[:, 1, None, None]
        step = (end - start)[:, :, None, None]
        along = (from_x * step[:, 0] + from_y * step[:, 1]) / step.square().sum(dim=1)
        along = along.clamp_(0, 1)
        distance = (from_x - along * step[:, 0]).square() + (from_y - along * step[:, 1]).square()
        nearest = torch.minimum(nearest, distance)
    pixel = 1 / min(images.shape[-2:])
    width = _uniform(images, 0.006, 0.025, generator, (1, 1)).clamp_(min=pixel)
    inside = ((width / 2 - nearest.sqrt()) / pixel + 0.5).clamp_(0, 1)
    change = _uniform(images, 0.15, 0.6, generator, (1, 1, 1))
    dark = _uniform(images, 0, 1, generator, (1, 1, 1)) < 0.75
    level = (images.mean(dim=1) * inside).sum(dim=(1, 2)) / inside.sum(dim=(1, 2)).clamp(min=1e-6)
    dark = torch.where(dark, level[:, None, None, None] > 0.15, level[:, None, None, None] > 0.85)
    return (images + torch.where(dark, -change, change) * inside[:, None]).clamp_(0, 1)


def warp(images: torch.Tensor, *, generator: torch.Generator | None = None) -> torch.Tensor:
    """Shift a disc of each image, which bends edges and displaces parts.

    The disc has a radius of 10 to 25 % of the shorter side. Its center is shifted by 30 to 70 % of
    the radius. The shift decreases towards the rim.

    Parameters
    ----------
    images : float tensor of shape (n, C, H, W)
        Values 0 to 1.
    generator : torch.Generator, default=None
        Source of randomness, on the device of the images. None draws a fresh seed.

    Returns
    -------
    tensor of shape (n, C, H, W)
        The synthesised anomalies.

    Examples
    --------
    >>> import torch
    >>> from skcoft.augmentation import warp
    >>> images = torch.rand(4, 3, 32, 32)
    >>> anomalies = warp(images, generator=torch.Generator().manual_seed(0))
    >>> bool((anomalies != images).any(dim=(1, 2, 3)).all())
    True
    """
    generator = _seeded_generator(images, generator)
    x, y = _coordinates(images)
    center, _ = _draw_centers(images, x, y, generator)
    radius = _uniform(images, 0.1, 0.25, generator, (1, 1))
    angle = _uniform(images, 0, 2 * math.pi, generator, (1, 1))
    push = radius * _uniform(images, 0.3, 0.7, generator, (1, 1))
    distance = (x - center[:, 0, None, None]).square() + (y - center[:, 1, None, None]).square()
    push = push * (1 - distance / radius.square()).clamp_(min=0).square()
    warped = _sample(images, x + angle.cos() * push, y + angle.sin() * push)
    return torch.where((push > 0)[:, None], warped, images)


def smudge(images: torch.Tensor, *, generator: torch.Generator | None = None) -> torch.Tensor:
    """Blur a blob of smooth random shape, so that texture or parts are missing.

    The blob covers 2 to 10 % of the image. Inside it, details finer than a tenth of the image are
    removed, and the brightness changes by 0.03 to 0.15.

    Parameters
    ----------
    images : float tensor of shape (n, C, H, W)
        Values 0 to 1.
    generator : torch.Generator, default=None
        Source of randomness, on the device of the images. None draws a fresh seed.

    Returns
    -------
    tensor of shape (n, C, H, W)
        The synthesised anomalies.

    Examples
    --------
    >>> import torch
    >>> from skcoft.augmentation import smudge
    >>> images = torch.rand(4, 3, 32, 32)
    >>> anomalies = smudge(images, generator=torch.Generator().manual_seed(0))
    >>> bool((anomalies != images).any(dim=(1, 2, 3)).all())
    True
    """
    generator = _seeded_generator(images, generator)
    inside = _blob_masks(images, 0.02, 0.1, generator)
    size = images.shape[-2:]
    coarse = F.interpolate(
        images, [min(side, 10) for side in size], mode="bilinear", antialias=True
    )
    light = _uniform(images, 0.03, 0.15, generator, (1, 1, 1))
    darker = images.mean(dim=(1, 2, 3), keepdim=True) > 0.5
    wiped = F.interpolate(coarse, size, mode="bilinear") + torch.where(darker, -light, light)
    return torch.where(inside, wiped.clamp_(0, 1), images)


def _draw_centers(
    images: torch.Tensor, x: torch.Tensor, y: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw points (n, 2) in the inner 80 % of each image; return them and its half size (2,)."""
    reach = torch.tensor([x.max(), y.max()], device=images.device, dtype=images.dtype) * 0.8
    return _uniform(images, -1, 1, generator, (2,)) * reach, reach


def _blob_masks(
    images: torch.Tensor, low: float, high: float, generator: torch.Generator
) -> torch.Tensor:
    """Draw masks (n, 1, H, W) of smooth random shapes that cover a share of each image."""
    shape = _smooth_noise(images, 1, (2, 4, 8), generator)
    share = _uniform(images, low, high, generator)
    ranked = shape.flatten(1).sort(dim=1, descending=True)[0]
    rank = (share * ranked.shape[1]).long().clamp(1, ranked.shape[1] - 1)
    return shape >= ranked.gather(1, rank[:, None])[:, :, None, None]


def _smooth_noise(
    images: torch.Tensor, channels: int, frequencies: Sequence[int], generator: torch.Generator
) -> torch.Tensor:
    """Draw the sum (n, channels, H, W) of weighted octaves of noise, about -1 to 1."""
    total = images.new_zeros(())
    for frequency in frequencies:
        coarse = _uniform(images, -1, 1, generator, (channels, frequency + 1, frequency + 1))
        weight = _uniform(images, 0, 1, generator, (1, 1, 1))
        total = total + weight * F.interpolate(coarse, images.shape[-2:], mode="bicubic")
    return total


def _seeded_generator(images: torch.Tensor, generator: torch.Generator | None) -> torch.Generator:
    """Return the generator, or a new one with a fresh seed if it is None."""
    if generator is None:
        generator = torch.Generator(images.device)
        generator.seed()
    return generator


SYNTHESIZERS = {
    "crack": crack,
    "cutpaste": cutpaste,
    "noise_texture": noise_texture,
    "patch_shuffle": patch_shuffle,
    "rotation": rotation,
    "smudge": smudge,
    "warp": warp,
}
