"""Photographs of a machined plate, with and without defects, drawn by numpy alone.

Lengths are shares of the image's side, the middle of the plate is at 0. Signed distances are
negative inside, as in computer graphics; a pixel at an edge is covered by as much of it as the
distance says, which is what keeps edges smooth.
"""

from numbers import Integral
from types import SimpleNamespace

import numpy as np
from scipy.ndimage import gaussian_filter, gaussian_filter1d, map_coordinates
from scipy.spatial import cKDTree
from sklearn.utils import Bunch, check_random_state

from .._utils.params import number

HALF, ROUND = (0.41, 0.35), 0.05  # of the plate: half its sides, radius of its corners
HOLES, HOLE = [(x, y) for y in (-0.25, 0.25) for x in (-0.31, 0.31)], 0.042
BORE, STEP = 0.12, 0.175  # radii of the hole in the middle and of the step around it
SLOTS, SLOT = (-0.27, 0.27), (0.05, 0.02)  # two of them: middles, half length and radius
CHAMFER = 0.012
THICK, HIGHEST = 0.06, 0.1  # how far its surface lies above the ground; white in depths
KINDS = "scratch", "stain", "dent", "missing_hole"


def make_plates(n_normal=20, n_anomalous=12, *, size=256, random_state=None):
    """Draw photographs of a machined plate, some with a defect: a set to try things on.

    Brushed metal with holes, slots and a step, on a dark ground. Place, turn, light, brushing and
    dust differ from one to the next. Anomalies have a scratch, a stain, a dent or a hole that was
    never drilled, from faint to plain. Nothing is fetched; an image takes a tenth of a second.

    Parameters
    ----------
    n_normal : int, default=20
        Number of normal images, which come first.
    n_anomalous : int, default=12
        Number of images with a defect; the four kinds take turns.
    size : int, default=256
        Side of the images in pixels, 32 or more.
    random_state : int, RandomState or None, default=None
        An int gives the same images every time.

    Returns
    -------
    :class:`~sklearn.utils.Bunch`
        With

        images : ndarray of uint8, shape (n_images, size, size, 3)
            RGB.
        labels : ndarray of int, shape (n_images,)
            +1 for normal, -1 for anomalies.
        kinds : ndarray of str, shape (n_images,)
            ``"good"``, ``"scratch"``, ``"stain"``, ``"dent"`` or ``"missing_hole"``.
        masks : ndarray of bool, shape (n_images, size, size)
            Where the defect is.
        depths : ndarray of uint16, shape (n_images, size, size)
            Measured height above the ground: 65535 is a tenth of the image's side.

    Raises
    ------
    ValueError
        If a number is too small, or there is no image at all.

    Examples
    --------
    >>> from skcoft.datasets import make_plates
    >>> plates = make_plates(8, 4, size=64, random_state=0)
    >>> plates.images.shape
    (12, 64, 64, 3)
    >>> plates.kinds[7:].tolist()
    ['good', 'scratch', 'stain', 'dent', 'missing_hole']
    """
    _check_integers(n_normal=(n_normal, 0), n_anomalous=(n_anomalous, 0), size=(size, 32))
    if n_normal + n_anomalous == 0:
        raise ValueError("n_normal and n_anomalous are both 0; at least one image is needed.")
    kinds = ["good"] * n_normal + [KINDS[i % len(KINDS)] for i in range(n_anomalous)]
    seeds = check_random_state(random_state).randint(2**31, size=len(kinds))
    drawn = [_photograph(kind, size, seed) for kind, seed in zip(kinds, seeds, strict=True)]
    images, masks, depths = (np.stack(column) for column in zip(*drawn, strict=True))
    labels, kinds = np.where(np.array(kinds) == "good", 1, -1), np.array(kinds, dtype=object)
    return Bunch(images=images, labels=labels, kinds=kinds, masks=masks, depths=depths)


def _check_integers(**values):
    for name, (value, low) in values.items():
        test, wanted = number(Integral, low)
        if not test(value):
            raise ValueError(f"{name} must be {wanted}; got {value!r}.")


def _photograph(kind, size, seed):
    """One photograph (size, size, 3), the mask of its defect, and the depth (size, size)."""
    rng = np.random.RandomState(seed)
    scene = _scene(size, rng)
    part = _plate(scene, rng)
    draws = rng.randint(2**31, size=2)  # a defect takes nothing from the chance of the rest
    mask = np.zeros((size, size), dtype=bool)
    if kind != "good":
        mask = DEFECTS[kind](scene, part, np.random.RandomState(draws[0]))
    colour = _lit(scene, part, np.random.RandomState(draws[1]))
    return _exposed(colour, scene, rng), mask, _depth(scene, part, seed)


def _scene(size, rng):
    """Coordinates of the plate at every pixel: it lies a little turned and shifted."""
    axis = (np.arange(size) + 0.5) / size - 0.5
    v, u = np.meshgrid(axis, axis, indexing="ij")
    angle, (right, down) = np.radians(rng.uniform(-0.6, 0.6)), rng.uniform(-0.004, 0.004, 2)
    scale = rng.uniform(0.996, 1.004)
    u, v = (u - right) / scale, (v - down) / scale
    x = np.cos(angle) * u + np.sin(angle) * v
    y = np.cos(angle) * v - np.sin(angle) * u
    return SimpleNamespace(size=size, x=x, y=y, radius=np.hypot(x, y))


def _cover(distance, size):
    """Share of each pixel that lies inside, from signed distances of the pixels' middles."""
    return np.clip(0.5 - distance * size, 0, 1)


def _plate(scene, rng):
    """Distances, relief and brushing of the plate."""
    x, y = scene.x, scene.y
    dx, dy = np.abs(x) - HALF[0] + ROUND, np.abs(y) - HALF[1] + ROUND
    body = np.hypot(dx.clip(0), dy.clip(0)) + np.maximum(dx, dy).clip(max=0) - ROUND
    holes = [np.hypot(x - a, y - b) - HOLE for a, b in HOLES]
    long, wide = SLOT
    slots = [np.hypot(x - a, np.maximum(np.abs(y) - long, 0)) - wide for a in SLOTS]
    return SimpleNamespace(
        body=body,
        holes=holes,
        others=[scene.radius - BORE, *slots],
        relief=0.0,  # of dents
        brushing=_brushing(scene, rng),
        paint=np.ones((*x.shape, 3)),  # what the light of the metal is multiplied by
        glint=0.0,  # what is added to it
    )


def _metal(part):
    """Signed distance of what is metal."""
    return np.max([part.body, *(-hole for hole in [*part.holes, *part.others])], axis=0)


def _brushing(scene, rng):
    """Lines along x, of many lengths; about the middle they run around it."""
    side = scene.size
    noise = rng.standard_normal((side, side))
    lines = 0.7 * _unit(
        gaussian_filter(noise, (0.02 * side, 0.15 * side), mode="wrap", truncate=2)
    )
    for length in (0.012, 0.1):
        lines += _unit(gaussian_filter1d(noise, length * side, mode="wrap", truncate=2))
    place = np.stack([scene.y, scene.x]) * side + side / 2
    straight = map_coordinates(lines, place, order=1, mode="grid-wrap")
    rings = _unit(gaussian_filter1d(rng.standard_normal(side), 0.8, mode="wrap"))
    around = np.interp(scene.radius * side, np.arange(side), rings)
    return np.where(scene.radius < STEP, around, straight / 1.6)


def _unit(noise):
    return (noise - noise.mean()) / noise.std()


def _height(scene, part, metal):
    """Height (size, size) of the plate's surface."""
    chamfer = np.clip(-metal, 0, CHAMFER)
    step = 0.012 * np.clip((scene.radius - STEP) / 0.012 + 0.5, 0, 1)
    return chamfer + step + part.relief


def _depth(scene, part, seed):
    """Return what a depth camera measures, which hangs a little askew: uint16 (size, size)."""
    rng, size, metal = np.random.RandomState([seed, 1]), scene.size, _metal(part)
    right, down, near = rng.uniform(-1, 1, 3) * (0.015, 0.015, 0.003)
    height = THICK + _height(scene, part, metal) + right * scene.x + down * scene.y + near
    seen = gaussian_filter(_cover(metal, size) * height, 0.7)
    fine, coarse = rng.standard_normal((2, size, size))
    seen = seen + 0.0006 * fine + 0.0003 * _unit(gaussian_filter(coarse, 2))
    return (np.clip(seen / HIGHEST, 0, 1) * 65535).round().astype(np.uint16)


def _lit(scene, part, rng):
    """Colours (size, size, 3) of plate and ground under one lamp from the upper left."""
    size, metal = scene.size, _metal(part)
    down, right = np.gradient(gaussian_filter(_height(scene, part, metal), 0.6), 1 / size)
    lamp = np.array([-0.45, -0.6]) + rng.uniform(-0.08, 0.08, 2)
    slope = -(right * lamp[0] + down * lamp[1])
    band = np.exp(-(((scene.y - 0.25 * scene.x - rng.uniform(-0.12, 0.06)) / 0.22) ** 2))
    light = rng.uniform(0.5, 0.56) + 0.13 * band - 0.10 * scene.y - 0.06 * scene.x
    light = light + 0.015 * part.brushing - 0.05 * (scene.radius < STEP) + 0.42 * slope
    tint = np.array([0.97, 1.0, 1.03]) + rng.uniform(-0.008, 0.008, 3)
    plate = light[..., None] * tint * part.paint + np.expand_dims(part.glint, -1)
    cover = _cover(metal, size)
    outline = _cover(part.body, size)
    shadow = gaussian_filter(np.roll(outline, (size // 40, size // 60), (0, 1)), size / 60)
    ground = _ground(scene, rng) * (1 - 0.6 * shadow[..., None])
    ground = ground * (1 - 0.5 * outline[..., None])  # seen through a hole
    return ground + cover[..., None] * (plate - ground)


def _ground(scene, rng):
    grain = rng.standard_normal((scene.size, scene.size))
    rough = 0.012 * _unit(gaussian_filter(grain, 0.7)) + 0.012 * _unit(
        gaussian_filter(grain, scene.size / 28)
    )
    return (0.17 + rough)[..., None] * np.array([0.85, 0.95, 1.1])


def _exposed(colour, scene, rng):
    """Add dust, the lens and the sensor."""
    size = scene.size
    for x, y in rng.uniform(-0.35, 0.35, (rng.randint(1, 5), 2)):
        away, speck = np.hypot(scene.x - x, scene.y - y), rng.uniform(0.001, 0.0025)
        dust = rng.uniform(-0.05, 0.06) * np.exp(-((away / speck) ** 2) / 2)
        colour = colour + dust[..., None]
    corner = 1 - 0.35 * (scene.x**2 + scene.y**2)
    blurred = gaussian_filter(colour * corner[..., None], (rng.uniform(0.4, 0.7),) * 2 + (0,))
    grain = 0.008 * rng.standard_normal((size, size, 1))  # of the light, and of each colour
    grain = grain + 0.004 * rng.standard_normal((size, size, 3))
    exposure = rng.uniform(0.97, 1.03)
    return (255 * np.clip(blurred * exposure + grain, 0, 1)).round().astype(np.uint8)


def _spot(scene, part, rng, margin):
    """Draw a point of the metal that is ``margin`` away from its edges."""
    rows, columns = np.nonzero((_metal(part) < -margin) & (np.abs(scene.radius - STEP) > margin))
    i = rng.randint(len(rows))
    return scene.x[rows[i], columns[i]], scene.y[rows[i], columns[i]]


def _scratch(scene, part, rng):
    """Scratch a thin, bent groove, bare at its bottom."""
    x, y = _spot(scene, part, rng, 0.02)
    length, bend = rng.uniform(0.2, 0.5), rng.uniform(-2.5, 2.5)
    along = np.linspace(-0.5, 0.5, 200) * length
    heading = rng.uniform(0, 2 * np.pi) + bend * along
    path = np.cumsum([np.cos(heading), np.sin(heading)], axis=1) * length / 200
    path = path.T - path[:, 100] + (x, y)
    distance, nearest = cKDTree(path).query(np.stack([scene.x, scene.y], axis=-1))
    width = max(rng.uniform(0.0035, 0.007), 0.4 / scene.size)
    pressed = np.sin(np.pi * nearest / 199) ** 0.3 * np.exp(-((distance / width) ** 2))
    strength = rng.uniform(0.5, 1)
    part.relief = part.relief - strength * 0.6 * width * pressed
    part.glint = part.glint + strength * 0.45 * pressed
    return (distance < 2 * width) & (_metal(part) < 0)


def _stain(scene, part, rng):
    """Let a brown film dry, darkest along its uneven border."""
    x, y = _spot(scene, part, rng, 0.03)
    radius = rng.uniform(0.045, 0.09)
    rough = gaussian_filter(rng.standard_normal(scene.x.shape), 0.025 * scene.size)
    stretch = rng.uniform(0.7, 1.4)
    away = np.hypot((scene.x - x) * stretch, (scene.y - y) / stretch) / radius + 0.18 * _unit(
        rough
    )
    film = np.clip((1 - away) / 0.15 + 0.5, 0, 1)
    rim = np.exp(-(((away - 0.88) / 0.14) ** 2)) * film
    opacity = rng.uniform(0.55, 1) * (0.6 * film + 0.5 * rim)
    part.paint = part.paint * (1 - opacity[..., None] * [0.38, 0.52, 0.72])
    return (film > 0.5) & (_metal(part) < 0)


def _dent(scene, part, rng):
    """Press a shallow hollow, told by its lit and its shaded side."""
    radius = rng.uniform(0.03, 0.05)
    x, y = _spot(scene, part, rng, radius)
    away = np.hypot(scene.x - x, scene.y - y) / radius
    part.relief = part.relief - rng.uniform(0.5, 1.0) * radius * np.exp(-2 * away**2)
    return (away < 1.2) & (_metal(part) < 0)


def _missing_hole(scene, part, rng):
    """Leave one of the four holes undrilled."""
    hole = part.holes.pop(rng.randint(len(HOLES)))
    return hole < 0


DEFECTS = dict(zip(KINDS, (_scratch, _stain, _dent, _missing_hole), strict=True))
