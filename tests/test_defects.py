"""Warped parts, smudges and blobs; other views and anomalies are in test_augmentation.py."""

import math

import pytest
import torch
from numpy.testing import assert_allclose
from test_augmentation import (
    assert_uniform,
    coordinates,
    generator,
    gray,
    in_the_middle,
    maps,
    moments,
    read_maps,
)

from skcoft.augmentation import (
    noise_texture,
    smudge,
    warp,
)


@pytest.fixture(scope="module")
def warped():
    """Where the pixels of 150 warped images are from, less where they are, and the masks."""
    with in_the_middle():
        moved = warp(maps(150, 48, 48), generator=generator())
    moved = read_maps(moved) - coordinates(48, 48)
    size = moved.norm(dim=1)
    return moved, size, size > 1e-5


def test_warped_parts_have_a_radius_of_10_to_25_percent(warped):
    _, _, masks = warped
    centre, _, _, _ = moments(masks)
    radius = (masks.float().mean(dim=(1, 2)) / math.pi).sqrt()
    assert_uniform(radius, 0.1, 0.25, error=0.004)
    off = (coordinates(48, 48) - centre[:, :, None, None]).norm(dim=1)
    assert ((off < radius[:, None, None] + 0.03) >= masks).all()  # round


def test_warped_parts_are_pushed_by_30_to_70_percent_of_their_radius(warped):
    moved, size, masks = warped
    radius = (masks.float().mean(dim=(1, 2)) / math.pi).sqrt()
    push = size.amax(dim=(1, 2))
    assert_uniform(push / radius, 0.3, 0.7, error=0.02)
    whole = moved.sum(dim=(2, 3))
    assert_uniform(torch.atan2(whole[:, 1], whole[:, 0]).rad2deg(), -180, 180, error=1)


def test_push_fades_towards_the_rim_as_a_square_of_squares(warped):
    """As (1 - r²/R²)² does, whose mean over the disc is a third, its mean square a fifth."""
    _, size, masks = warped
    share = size / size.amax(dim=(1, 2), keepdim=True)
    area = masks.sum(dim=(1, 2))
    assert (share.sum(dim=(1, 2)) / area).mean() == pytest.approx(1 / 3, abs=0.01)
    assert (share.square().sum(dim=(1, 2)) / area).mean() == pytest.approx(1 / 5, abs=0.01)


@pytest.mark.parametrize("level, sign", [(0.49, 1), (0.51, -1)])
def test_smudges_cover_2_to_10_percent_and_wipe_to_3_to_15_percent_of_other_light(level, sign):
    """Bright images get darker and dark ones lighter; a fine grating is gone."""
    grating = 0.2 * (-1.0) ** torch.arange(40)
    images = (level + grating).expand(400, 1, 40, 40)
    out = smudge(images, generator=generator())[:, 0]
    inside = out != images[:, 0]
    light = out.where(inside, 0).sum(dim=(1, 2)) / inside.sum(dim=(1, 2)) - level
    spread = (out - (level + light)[:, None, None])[inside].std()
    assert spread < 0.02
    assert_uniform(sign * light, 0.03, 0.15, error=0.005)
    assert_uniform(inside.float().mean(dim=(1, 2)), 0.02, 0.1, error=1 / 800)


@pytest.mark.parametrize("waves, low, high", [(2, 0.8, 0.95), (4, 0.3, 0.5), (8, 0, 0.05)])
def test_smudges_wipe_what_is_finer_than_a_tenth_of_the_image(waves, low, high):
    """Share of the height of waves that is left."""
    x = coordinates(80, 80)[0]
    images = (0.5 + 0.2 * torch.sin(2 * math.pi * waves * x)).expand(100, 1, 80, 80)
    out = smudge(images, generator=generator())
    inside = out != images
    before, after = images[inside] - 0.5, out[inside] - 0.5
    assert low < torch.cov(torch.stack([before, after]))[0, 1] / before.var() < high


def test_smudges_keep_all_detail_of_images_of_10_pixels():
    images = torch.rand(50, 1, 8, 8, generator=generator()) / 2
    change = smudge(images, generator=generator()) - images
    height = change.amax(dim=(1, 2, 3), keepdim=True)
    assert_allclose(change, height * (change != 0), atol=1e-6)


def test_blobs_have_two_pixels_at_least():
    changed = noise_texture(gray(100, 4), generator=generator()) != 0.5
    assert (changed.sum(dim=(1, 2, 3)) >= 2).all()
