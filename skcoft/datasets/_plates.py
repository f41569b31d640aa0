"""Generate images of a machined plate, with and without defects, with numpy.

Lengths are fractions of the side of the image. The centre of the plate is the origin. Shapes are
signed distances, negative inside. Edges are anti-aliased: the distance of a pixel from an edge
gives the fraction of the pixel that a shape covers.
"""

from itertools import cycle, islice
from numbers import Integral
from types import SimpleNamespace

import numpy as np
from scipy.ndimage import gaussian_filter, gaussian_filter1d, map_coordinates
from scipy.spatial import cKDTree
from sklearn.utils import Bunch, check_random_state

from .._utils.params import check_argument, number

HALF_SIDES, CORNER_RADIUS = (0.41, 0.35), 0.05
HOLE_CENTRES = [(x, y) for y in (-0.25, 0.25) for x in (-0.31, 0.31)]
HOLE_RADIUS = 0.042
BORE_RADIUS, STEP_RADIUS = 0.12, 0.175  # of the central hole and of the step around it
SLOT_CENTRES = -0.27, 0.27
SLOT_HALF_LENGTH, SLOT_RADIUS = 0.05, 0.02
CHAMFER_WIDTH = 0.012
PLATE_THICKNESS = 0.06  # height of the surface above the ground
MAX_HEIGHT = 0.1  # height that is 65535 in depth images


def make_plates(
    n_normal: int = 20,
    n_anomalous: int = 12,
    *,
    size: int = 256,
    random_state: int | np.random.RandomState | None = None,
) -> Bunch:
    """Generate images of a machined plate, with and without defects, for examples and tests.

    The plate is brushed metal with holes, slots and a step, on a dark ground. Position, rotation,
    light, brushing and dust vary. Anomalies have a scratch, a stain, a dent or a missing hole,
    which may be faint or obvious. Nothing is downloaded. An image takes about 0.1 seconds.

    Parameters
    ----------
    n_normal : int, default=20
        Number of normal images, which come first.
    n_anomalous : int, default=12
        Number of images with a defect. The four kinds of defects alternate.
    size : int, default=256
        Height and width of the images in pixels, at least 32.
    random_state : int, RandomState or None, default=None
        Seed. Pass an int to get the same images in each call.

    Returns
    -------
    :class:`~sklearn.utils.Bunch`
        With

        images : ndarray of uint8, shape (n_images, size, size, 3)
            RGB images.
        labels : ndarray of int, shape (n_images,)
            +1 for normal, -1 for anomalous.
        kinds : ndarray of str, shape (n_images,)
            ``"good"``, ``"scratch"``, ``"stain"``, ``"dent"`` or ``"missing_hole"``.
        masks : ndarray of bool, shape (n_images, size, size)
            True for pixels of the defect.
        depths : ndarray of uint16, shape (n_images, size, size)
            Measured height above the ground. 65535 is a tenth of the side of the image.

    Raises
    ------
    ValueError
        If a number is too small, or ``n_normal`` and ``n_anomalous`` are both 0.

    Examples
    --------
    >>> from skcoft.datasets import make_plates
    >>> plates = make_plates(8, 4, size=64, random_state=0)
    >>> plates.images.shape
    (12, 64, 64, 3)
    >>> plates.kinds[7:].tolist()
    ['good', 'scratch', 'stain', 'dent', 'missing_hole']
    """
    for name, value in (("n_normal", n_normal), ("n_anomalous", n_anomalous)):
        check_argument(name, value, number(Integral, 0))
    check_argument("size", size, number(Integral, 32))
    if n_normal + n_anomalous == 0:
        raise ValueError("n_normal and n_anomalous are both 0. Generate at least one image.")
    names = ["good"] * n_normal
    names += islice(cycle(DEFECTS), n_anomalous)
    seeds = check_random_state(random_state).randint(2**31, size=len(names))
    with np.errstate(under="ignore"):  # of shading that fades to 0
        plates = [_plate_image(kind, size, seed) for kind, seed in zip(names, seeds, strict=True)]
    images, masks, depths = (np.stack(column) for column in zip(*plates, strict=True))
    kinds = np.array(names, dtype=object)
    labels = np.where(kinds == "good", 1, -1)
    return Bunch(images=images, labels=labels, kinds=kinds, masks=masks, depths=depths)


def _plate_image(kind: str, size: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return an image (size, size, 3), the mask of its defect and the depth image."""
    rng = np.random.RandomState(seed)
    scene = _scene(size, rng)
    plate = _plate(scene, rng)
    seeds = rng.randint(2**31, size=2)  # so that a defect changes nothing else in the image
    mask = np.zeros((size, size), dtype=bool)
    if kind != "good":
        mask = DEFECTS[kind](scene, plate, np.random.RandomState(seeds[0]))
    colour = _render(scene, plate, np.random.RandomState(seeds[1]))
    return _expose(colour, scene, rng), mask, _depth_image(scene, plate, seed)


def _scene(size: int, rng: np.random.RandomState) -> SimpleNamespace:
    """Return the plate's coordinates of all pixels, for a random position and rotation."""
    axis = (np.arange(size) + 0.5) / size - 0.5
    v, u = np.meshgrid(axis, axis, indexing="ij")
    angle, (right, down) = np.radians(rng.uniform(-0.6, 0.6)), rng.uniform(-0.004, 0.004, 2)
    scale = rng.uniform(0.996, 1.004)
    u, v = (u - right) / scale, (v - down) / scale
    x = np.cos(angle) * u + np.sin(angle) * v
    y = np.cos(angle) * v - np.sin(angle) * u
    return SimpleNamespace(size=size, x=x, y=y, radius=np.hypot(x, y))


def _coverage(distance: np.ndarray, size: int) -> np.ndarray:
    """Return the fraction of each pixel inside a shape, from signed distances."""
    return np.clip(0.5 - distance * size, 0, 1)


def _plate(scene: SimpleNamespace, rng: np.random.RandomState) -> SimpleNamespace:
    """Return the shapes, the relief and the surface of the plate."""
    x, y = scene.x, scene.y
    dx = np.abs(x) - HALF_SIDES[0] + CORNER_RADIUS
    dy = np.abs(y) - HALF_SIDES[1] + CORNER_RADIUS
    body = np.hypot(dx.clip(0), dy.clip(0)) + np.maximum(dx, dy).clip(max=0) - CORNER_RADIUS
    holes = [np.hypot(x - a, y - b) - HOLE_RADIUS for a, b in HOLE_CENTRES]
    beyond = np.maximum(np.abs(y) - SLOT_HALF_LENGTH, 0)
    slots = [np.hypot(x - a, beyond) - SLOT_RADIUS for a in SLOT_CENTRES]
    return SimpleNamespace(
        body=body,
        holes=holes,
        openings=[scene.radius - BORE_RADIUS, *slots],
        relief=0.0,  # height added by scratches and dents
        brushing=_brushing(scene, rng),
        paint=np.ones((*x.shape, 3)),  # factor of the metal's brightness
        glint=0.0,  # brightness added to the metal
    )


def _metal(plate: SimpleNamespace) -> np.ndarray:
    """Return the signed distance to the metal: the body without holes."""
    return np.max([plate.body, *(-hole for hole in [*plate.holes, *plate.openings])], axis=0)


def _brushing(scene: SimpleNamespace, rng: np.random.RandomState) -> np.ndarray:
    """Return brush marks: lines along x of several lengths, and circles inside the step."""
    side = scene.size
    noise = rng.standard_normal((side, side))
    lines = 0.7 * _standardized(
        gaussian_filter(noise, (0.02 * side, 0.15 * side), mode="wrap", truncate=2)
    )
    for length in (0.012, 0.1):
        lines += _standardized(gaussian_filter1d(noise, length * side, mode="wrap", truncate=2))
    pixels = np.stack([scene.y, scene.x]) * side + side / 2
    straight = map_coordinates(lines, pixels, order=1, mode="grid-wrap")
    rings = _standardized(gaussian_filter1d(rng.standard_normal(side), 0.8, mode="wrap"))
    circles = np.interp(scene.radius * side, np.arange(side), rings)
    return np.where(scene.radius < STEP_RADIUS, circles, straight / 1.6)


def _standardized(noise: np.ndarray) -> np.ndarray:
    return (noise - noise.mean()) / noise.std()


def _height(scene: SimpleNamespace, plate: SimpleNamespace, metal: np.ndarray) -> np.ndarray:
    """Return the height of the plate's surface above its lower edge."""
    chamfer = np.clip(-metal, 0, CHAMFER_WIDTH)
    step = 0.012 * np.clip((scene.radius - STEP_RADIUS) / 0.012 + 0.5, 0, 1)
    return chamfer + step + plate.relief


def _depth_image(scene: SimpleNamespace, plate: SimpleNamespace, seed: int) -> np.ndarray:
    """Return the uint16 image of a depth camera that is slightly tilted."""
    rng, size, metal = np.random.RandomState([seed, 1]), scene.size, _metal(plate)
    right, down, near = rng.uniform(-1, 1, 3) * (0.015, 0.015, 0.003)
    height = _height(scene, plate, metal) + PLATE_THICKNESS
    height = height + right * scene.x + down * scene.y + near
    measured = gaussian_filter(_coverage(metal, size) * height, 0.7)
    fine, coarse = rng.standard_normal((2, size, size))
    measured = measured + 0.0006 * fine + 0.0003 * _standardized(gaussian_filter(coarse, 2))
    return (np.clip(measured / MAX_HEIGHT, 0, 1) * 65535).round().astype(np.uint16)


def _render(
    scene: SimpleNamespace, plate: SimpleNamespace, rng: np.random.RandomState
) -> np.ndarray:
    """Return the colours of plate and ground, lit by a lamp at the upper left."""
    size, metal = scene.size, _metal(plate)
    down, right = np.gradient(gaussian_filter(_height(scene, plate, metal), 0.6), 1 / size)
    lamp = np.array([-0.45, -0.6]) + rng.uniform(-0.08, 0.08, 2)
    slope = -(right * lamp[0] + down * lamp[1])
    band = np.exp(-(((scene.y - 0.25 * scene.x - rng.uniform(-0.12, 0.06)) / 0.22) ** 2))
    light = rng.uniform(0.5, 0.56) + 0.13 * band - 0.10 * scene.y - 0.06 * scene.x
    light = light + 0.015 * plate.brushing - 0.05 * (scene.radius < STEP_RADIUS) + 0.42 * slope
    tint = np.array([0.97, 1.0, 1.03]) + rng.uniform(-0.008, 0.008, 3)
    surface = light[..., None] * tint * plate.paint + np.expand_dims(plate.glint, -1)
    coverage = _coverage(metal, size)
    outline = _coverage(plate.body, size)
    shadow = gaussian_filter(np.roll(outline, (size // 40, size // 60), (0, 1)), size / 60)
    ground = _ground(scene, rng) * (1 - 0.6 * shadow[..., None])
    ground = ground * (1 - 0.5 * outline[..., None])  # darker under the plate
    return ground + coverage[..., None] * (surface - ground)


def _ground(scene: SimpleNamespace, rng: np.random.RandomState) -> np.ndarray:
    grain = rng.standard_normal((scene.size, scene.size))
    rough = 0.012 * _standardized(gaussian_filter(grain, 0.7)) + 0.012 * _standardized(
        gaussian_filter(grain, scene.size / 28)
    )
    return (0.17 + rough)[..., None] * np.array([0.85, 0.95, 1.1])


def _expose(colour: np.ndarray, scene: SimpleNamespace, rng: np.random.RandomState) -> np.ndarray:
    """Return the image of a camera: with dust, blur, vignetting and noise."""
    size = scene.size
    for x, y in rng.uniform(-0.35, 0.35, (rng.randint(1, 5), 2)):
        distance, radius = np.hypot(scene.x - x, scene.y - y), rng.uniform(0.001, 0.0025)
        dust = rng.uniform(-0.05, 0.06) * np.exp(-((distance / radius) ** 2) / 2)
        colour = colour + dust[..., None]
    vignette = 1 - 0.35 * (scene.x**2 + scene.y**2)
    blurred = gaussian_filter(colour * vignette[..., None], (rng.uniform(0.4, 0.7),) * 2 + (0,))
    grain = 0.008 * rng.standard_normal((size, size, 1))  # of all channels
    grain = grain + 0.004 * rng.standard_normal((size, size, 3))  # of each channel
    exposure = rng.uniform(0.97, 1.03)
    return (255 * np.clip(blurred * exposure + grain, 0, 1)).round().astype(np.uint8)


def _random_point(
    scene: SimpleNamespace, plate: SimpleNamespace, rng: np.random.RandomState, margin: float
) -> tuple[float, float]:
    """Return a point of the metal whose distance from all edges exceeds ``margin``."""
    on_metal = _metal(plate) < -margin
    rows, columns = np.nonzero(on_metal & (np.abs(scene.radius - STEP_RADIUS) > margin))
    i = rng.randint(len(rows))
    return scene.x[rows[i], columns[i]], scene.y[rows[i], columns[i]]


def _scratch(
    scene: SimpleNamespace, plate: SimpleNamespace, rng: np.random.RandomState
) -> np.ndarray:
    """Add a thin, curved groove with a bright bottom; return its mask."""
    x, y = _random_point(scene, plate, rng, 0.02)
    length, bend = rng.uniform(0.2, 0.5), rng.uniform(-2.5, 2.5)
    along = np.linspace(-0.5, 0.5, 200) * length
    heading = rng.uniform(0, 2 * np.pi) + bend * along
    path = np.cumsum([np.cos(heading), np.sin(heading)], axis=1) * length / 200
    path = path.T - path[:, 100] + (x, y)
    distance, nearest = cKDTree(path).query(np.stack([scene.x, scene.y], axis=-1))
    width = max(rng.uniform(0.0035, 0.007), 0.4 / scene.size)
    groove = np.sin(np.pi * nearest / 199) ** 0.3 * np.exp(-((distance / width) ** 2))
    strength = rng.uniform(0.5, 1)
    plate.relief = plate.relief - strength * 0.6 * width * groove
    plate.glint = plate.glint + strength * 0.45 * groove
    return (distance < 2 * width) & (_metal(plate) < 0)


def _stain(
    scene: SimpleNamespace, plate: SimpleNamespace, rng: np.random.RandomState
) -> np.ndarray:
    """Add a brown film, darkest along its irregular border; return its mask."""
    x, y = _random_point(scene, plate, rng, 0.03)
    radius = rng.uniform(0.045, 0.09)
    rough = gaussian_filter(rng.standard_normal(scene.x.shape), 0.025 * scene.size)
    stretch = rng.uniform(0.7, 1.4)
    distance = np.hypot((scene.x - x) * stretch, (scene.y - y) / stretch) / radius
    distance = distance + 0.18 * _standardized(rough)
    film = np.clip((1 - distance) / 0.15 + 0.5, 0, 1)
    rim = np.exp(-(((distance - 0.88) / 0.14) ** 2)) * film
    opacity = rng.uniform(0.55, 1) * (0.6 * film + 0.5 * rim)
    plate.paint = plate.paint * (1 - opacity[..., None] * [0.38, 0.52, 0.72])
    return (film > 0.5) & (_metal(plate) < 0)


def _dent(
    scene: SimpleNamespace, plate: SimpleNamespace, rng: np.random.RandomState
) -> np.ndarray:
    """Add a shallow dent, visible by its bright and its dark side; return its mask."""
    radius = rng.uniform(0.03, 0.05)
    x, y = _random_point(scene, plate, rng, radius)
    distance = np.hypot(scene.x - x, scene.y - y) / radius
    plate.relief = plate.relief - rng.uniform(0.5, 1.0) * radius * np.exp(-2 * distance**2)
    return (distance < 1.2) & (_metal(plate) < 0)


def _missing_hole(
    scene: SimpleNamespace, plate: SimpleNamespace, rng: np.random.RandomState
) -> np.ndarray:
    """Remove one of the four holes; return its mask."""
    return plate.holes.pop(rng.randint(len(HOLE_CENTRES))) < 0


DEFECTS = {"scratch": _scratch, "stain": _stain, "dent": _dent, "missing_hole": _missing_hole}
