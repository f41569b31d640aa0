"""Images and anomaly maps as pixels, for reports, map files and plots."""

from base64 import b64encode
from io import BytesIO

import numpy as np
import torch
from PIL import Image

from .._input.images import Images

MAP_MAX = 6.0  # value of a map that is white or the brightest colour; 0 is black
REPORT_IMAGE_SIDE = 320  # maximum length in pixels of the longer side
# Every eighth of matplotlib's "inferno", which the report cannot import: from black over red to
# pale yellow. Its brightness increases throughout, so it is also readable in grayscale.
MAP_COLORS = np.array(
    [
        (0, 0, 4),
        (31, 12, 72),
        (85, 15, 109),
        (136, 34, 106),
        (186, 54, 85),
        (227, 89, 51),
        (249, 140, 10),
        (249, 201, 50),
        (252, 255, 164),
    ]
)


def load_image(
    inputs: Images, index: int, bit_depth: int | None, max_side: float = np.inf
) -> np.ndarray:
    """Return an image as floats (h, w, 3) in 0..1, downscaled to a longer side of ``max_side``."""
    height, width = inputs.sizes[index]
    scale = min(1, max_side / max(height, width))
    size = max(1, round(height * scale)), max(1, round(width * scale))
    return inputs.load(torch.tensor([index]), size, bit_depth)[0].permute(1, 2, 0).numpy()


def to_uint8(values: np.ndarray) -> np.ndarray:
    """Convert values in 0..1 to uint8."""
    return (255 * np.clip(values, 0, 1)).round().astype(np.uint8)


def scale_map(anomaly_map: np.ndarray) -> np.ndarray:
    """Scale a map to 0..1, in the same way for all images; NaN, outside of a mask, becomes 0."""
    return np.nan_to_num(np.clip(anomaly_map / MAP_MAX, 0, 1))


def overlay(image: np.ndarray, anomaly_map: np.ndarray) -> np.ndarray:
    """Lay a map, in colour, over an image in grayscale."""
    height, width = image.shape[:2]
    filled = np.nan_to_num(anomaly_map.astype(np.float32))  # NaN outside of a mask
    resized = Image.fromarray(filled).resize((width, height), Image.Resampling.BILINEAR)
    heat = scale_map(np.asarray(resized))
    stops = np.linspace(0, 1, len(MAP_COLORS))
    colour = np.stack([np.interp(heat, stops, c) for c in MAP_COLORS.T / 255], axis=-1)
    opacity = np.clip(1.2 * heat, 0, 0.7)[..., None]
    gray = 0.8 * image.mean(axis=-1, keepdims=True)
    return gray + opacity * (colour - gray)


def to_data_uri(image: np.ndarray) -> str:
    """Return an image (h, w, 3) in 0..1 as a data URI, encoded as JPEG."""
    content = BytesIO()
    Image.fromarray(to_uint8(image)).save(content, "JPEG", quality=82, optimize=True)
    return "data:image/jpeg;base64," + b64encode(content.getvalue()).decode()
