import numpy as np
import pytest
import torch

from skcoft.augmentation import (
    SYNTHESIZERS,
    crack,
    cutpaste,
    noise_texture,
    patch_shuffle,
    random_views,
    rotation,
    smudge,
    warp,
)

FUNCTIONS = {"random_views": random_views, **SYNTHESIZERS}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def smooth_images(n=6, height=48, width=32):
    coarse = torch.rand(n, 3, 4, 4, generator=generator(9))
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_contract(name):
    """Shape, range, own draws per image, seed, no change of input or of global state."""
    function = FUNCTIONS[name]
    images = smooth_images(1).repeat(6, 1, 1, 1)
    before, state = images.clone(), torch.get_rng_state()
    out = function(images, generator=generator())
    assert out.shape == images.shape and out.dtype == images.dtype
    assert out.min() >= 0 and out.max() <= 1
    assert torch.equal(images, before)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(out, function(images, generator=generator()))
    assert not torch.equal(out, function(images, generator=generator(1)))
    assert not torch.equal(out, images)
    assert len({o.numpy().tobytes() for o in out}) > 1  # draws differ within a batch
    assert not torch.equal(function(images), function(images))  # a fresh seed by default


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("shape", [(1, 1, 8, 8), (2, 3, 33, 47)])
def test_other_shapes(name, shape):
    images = torch.rand(shape, generator=generator())
    assert FUNCTIONS[name](images, generator=generator()).shape == shape


def test_no_change_without_strength():
    images = smooth_images()
    none = dict(degrees=0, translate=0, scale=0, flip=0, brightness=0, contrast=0)
    assert torch.allclose(random_views(images, **none), images, atol=1e-5)
    mirrored = random_views(images, **{**none, "flip": 1})
    assert torch.allclose(mirrored, images.flip(3), atol=1e-5)


def test_views_do_not_shear_images_that_are_not_square():
    """A disc stays a disc under rotation, whatever the image's shape."""
    y, x = np.mgrid[:40, :120]
    disc = torch.from_numpy(((x - 59.5) ** 2 + (y - 19.5) ** 2 < 12**2).astype(np.float32))
    images = disc.expand(4, 1, 40, 120)
    options = dict(degrees=90, translate=0, scale=0, flip=0, brightness=0, contrast=0)
    turned = random_views(images, generator=generator(), **options)
    middle = (slice(None), 0, slice(None), slice(40, 80))  # beyond it the mirrored border begins
    assert (turned - images)[middle].abs().mean() < 0.02


@pytest.mark.parametrize("function", [crack, cutpaste, noise_texture, smudge, warp])
def test_local_defects_are_local(function):
    images = smooth_images(64, 64, 64)
    changed = (function(images, generator=generator()) - images).abs().amax(1) > 1e-4
    share = changed.float().mean((1, 2))
    assert share.max() < 0.25  # most of every image stays as it was
    assert (share > 0).float().mean() > 0.95


def test_cutpaste_has_patches_and_scars():
    images = torch.rand(200, 1, 64, 64, generator=generator())
    changed = (cutpaste(images, generator=generator()) != images).flatten(1).float().mean(1)
    assert (changed < 0.015).any() and (changed > 0.05).any()


def test_rotation_is_exact_for_squares():
    images = smooth_images(30, 16, 16)
    out = rotation(images, generator=generator())
    turns = []
    for image, turned in zip(images, out, strict=True):
        turns += [k for k in range(4) if torch.equal(torch.rot90(image, k, (1, 2)), turned)]
    assert len(turns) == 30 and set(turns) == {1, 2, 3}


def test_patch_shuffle_moves_whole_tiles():
    images = torch.arange(16.0).view(1, 1, 4, 4).repeat_interleave(3, 2).repeat_interleave(3, 3)
    out = patch_shuffle(images / 16, generator=generator())[0, 0] * 16
    tiles = out.view(4, 3, 4, 3).transpose(1, 2).reshape(16, 9)
    assert (tiles == tiles[:, :1]).all()
    assert sorted(tiles[:, 0].tolist()) == list(range(16))
