"""Images and maps as pixels."""

import numpy as np
from numpy.testing import assert_allclose, assert_array_equal

from skcoft.report._images import MAP_MAX, overlay, scale_map


def test_overlay_is_grayscale_for_low_values_and_coloured_for_high_ones():
    image = np.full((8, 8, 3), [0.2, 0.4, 0.6])
    anomaly_map = np.zeros((16, 16))
    anomaly_map[:, 8:] = 9
    result = overlay(image, anomaly_map)
    assert_allclose(result[:, :3], 0.8 * 0.4, atol=1e-6)
    hot = np.array([252, 255, 164]) / 255
    assert_allclose(result[:, 5:], np.broadcast_to(0.7 * hot + 0.3 * 0.32, (8, 3, 3)), atol=1e-6)


def test_map_scale_clips_and_hides_what_is_outside_of_a_mask():
    values = np.array([-1, 0, MAP_MAX / 2, MAP_MAX, 2 * MAP_MAX, np.nan])
    assert_array_equal(scale_map(values), [0, 0, 0.5, 1, 1, 0])
