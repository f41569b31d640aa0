"""Whole numbers of any type, before and after a fit on another one."""

import numpy as np
import pytest
import torch
from conftest import TinyNet
from numpy.testing import assert_allclose, assert_array_equal

from skcoft import COFTDetector

TYPES = {
    "uint8": lambda X: X,
    "int16": lambda X: X.astype(np.int16),
    "uint16": lambda X: X.astype(np.uint16),
    "int32": lambda X: X.astype(np.int32),
    "int64": lambda X: X.astype(np.int64),
    "uint64": lambda X: X.astype(np.uint64),
    "big-endian": lambda X: X.astype(">i4"),
    "big-endian, unsigned": lambda X: X.astype(">u2"),
    "torch int64": lambda X: torch.from_numpy(X.astype(np.int64)).movedim(-1, 1),
    "torch int16": lambda X: torch.from_numpy(X.astype(np.int16)).movedim(-1, 1),
    "torch uint16": lambda X: torch.from_numpy(X.astype(np.uint16)).movedim(-1, 1),
    "nested lists": lambda X: X.tolist(),
    "list of arrays": lambda X: list(X.astype(np.int64)),
}


def detector(**params):
    return COFTDetector(TinyNet(), max_iter=0, random_state=0, **params)


@pytest.fixture(scope="module")
def fitted(photos):
    """A detector of images of type uint8."""
    return detector().fit(photos[:8])


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.filterwarnings("error")
def test_values_to_255_are_those_of_8_bits_after_a_fit_on_8_bits(kind, photos, fitted):
    expected = fitted.score_samples(photos[8:])
    assert_array_equal(fitted.score_samples(TYPES[kind](photos[8:])), expected)
    assert_array_equal(fitted.score_samples(TYPES[kind](photos[8:9])), expected[:1])
    maps = fitted.anomaly_map(TYPES[kind](photos[8:9]))
    assert_array_equal(maps, fitted.anomaly_map(photos[8:9]))


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.filterwarnings("ignore:X holds whole numbers up to 255")
def test_a_fit_on_any_type_scores_8_bits_alike(kind, photos, fitted):
    same = detector().fit(TYPES[kind](photos[:8]))
    assert_array_equal(same.score_samples(photos[8:]), fitted.score_samples(photos[8:]))


@pytest.mark.filterwarnings("error")
def test_values_to_255_are_those_of_8_bits_after_a_fit_on_floats(photos, fitted):
    same = detector().fit(photos[:8] / 255)
    expected = fitted.score_samples(photos[8:])
    assert_allclose(same.score_samples(photos[8:].astype(int)), expected, rtol=1e-6)


@pytest.mark.parametrize("kind", [kind for kind in TYPES if kind != "uint8"])
def test_greater_values_after_a_fit_on_8_bits_are_refused_with_both_ranges(kind, photos, fitted):
    X = TYPES[kind](photos[8:].astype(np.uint16) + 200)
    with pytest.raises(ValueError) as caught:
        fitted.score_samples(X)
    for part in ("455", "0..255", "Scale X to 0..1"):
        assert part in str(caught.value)


@pytest.mark.filterwarnings("error")
def test_8_bits_after_a_fit_on_12_bits_are_0_to_255(photos):
    deep = photos.astype(np.uint16) * 16
    fitted = detector(bit_depth=12).fit(deep[:8])
    assert_allclose(
        fitted.score_samples(photos[8:]),
        fitted.score_samples((photos[8:] / 255).astype(np.float32)),
    )
    dark = fitted.score_samples(photos[8:].astype(np.int64))  # of 12 bits, and nearly black
    assert_array_equal(dark, fitted.score_samples(photos[8:].astype(np.uint16)))
