import math
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from skcoft import augmentation
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
    """Check shape, range, seed and variation; inputs and the global state do not change."""
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


def assert_uniform(values, low, high, error=0.0):
    """Check that the values fill the interval evenly, up to the measurement ``error``."""
    width = high - low
    assert values.min() == pytest.approx(low, abs=8 / len(values) * width + error)
    assert values.max() == pytest.approx(high, abs=8 / len(values) * width + error)
    assert values.mean() == pytest.approx((low + high) / 2, abs=width / len(values) ** 0.5 + error)
    assert values.std() == pytest.approx(width / 12**0.5, abs=width / len(values) ** 0.5 + error)


def coordinates(height, width):
    """Pixel coordinates (2, H, W), x and y from the centre, in units of the shorter side."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return torch.stack([x - width / 2, y - height / 2]) / min(height, width)


def maps(n, height, width):
    """Images that show where each pixel is from: x and y as red and green; blue is 0.5."""
    red_green = 0.5 + 0.5 * coordinates(height, width)
    blue = torch.full((1, height, width), 0.5)
    return torch.cat([red_green, blue]).repeat(n, 1, 1, 1)


def read_maps(images):
    """Coordinates (n, 2, H, W) that the pixels of changed ``maps`` are from."""
    return 2 * (images[:, :2] - 0.5)


def gray(n, side, level=0.5):
    return torch.full((n, 1, side, side), float(level))


DEFAULTS = {
    "random_views": dict(
        degrees=5.0, translate=0.05, scale=0.1, flip=0.5, brightness=0.1, contrast=0.1
    ),
    "patch_shuffle": dict(grid=4),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_defaults(name):
    expected = {"generator": None, **DEFAULTS.get(name, {})}
    assert FUNCTIONS[name].__kwdefaults__ == expected


def test_names():
    functions = crack, cutpaste, noise_texture, patch_shuffle, rotation, smudge, warp
    assert SYNTHESIZERS == {function.__name__: function for function in functions}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("side", [1, 2, 3, 8])
def test_tiny_images(name, side):
    out = FUNCTIONS[name](torch.ones(50, 3, side, side), generator=generator())
    assert out.shape == (50, 3, side, side) and torch.isfinite(out).all()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_black_and_white_stay_in_range(name):
    images = torch.zeros(200, 3, 24, 24)
    images[:100, :, :, 10:] = 1
    images[100:, :, :, 14:] = 1
    out = FUNCTIONS[name](images, generator=generator())
    assert out.min() >= 0 and out.max() <= 1


# Of 64 smooth images: 1000 x the mean change of each quarter, and the mean of its size. They pin
# what the tests below do not measure, and the order of the random values behind published figures.
FINGERPRINTS = {
    "random_views": [6.898, -17.278, -7.375, 2.800, 155.887],
    "crack": [-0.291, -1.074, 0.280, -1.142, 1.974],
    "cutpaste": [0.480, 0.164, 0.091, 0.824, 6.657],
    "noise_texture": [-1.133, 0.081, -0.224, -0.581, 13.921],
    "patch_shuffle": [7.973, -3.955, -9.277, 5.259, 226.552],
    "rotation": [3.777, -4.852, -6.918, 7.993, 236.705],
    "smudge": [0.508, -1.268, 0.926, -0.631, 4.954],
    "warp": [0.512, 0.458, -0.161, 0.210, 2.205],
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_draws_of_a_seed(name):
    images = smooth_images(64, 64, 48)
    change = FUNCTIONS[name](images, generator=generator(3)) - images
    quarters = torch.nn.functional.adaptive_avg_pool2d(change.mean(dim=(0, 1))[None], 2)
    measured = [*quarters.flatten().tolist(), change.abs().mean().item()]
    assert [1000 * m for m in measured] == pytest.approx(FINGERPRINTS[name], rel=1e-3, abs=0.01)


@pytest.fixture(scope="module")
def viewed():
    """The affine map of each of 1000 views: the source of the centre, of steps right and down."""
    views = random_views(maps(1000, 24, 32), generator=generator(), brightness=0, contrast=0)
    source = read_maps(views)
    right = (source[:, :, 11:13, 20] - source[:, :, 11:13, 11]).mean(2) * 24 / 9
    down = (source[:, :, 16, 15:17] - source[:, :, 7, 15:17]).mean(2) * 24 / 9
    return source[:, :, 11:13, 15:17].mean(dim=(2, 3)), right, down


def test_views_are_turned_by_5_degrees_and_resized_by_10_percent_at_most(viewed):
    _, right, down = viewed
    assert_uniform(torch.atan2(right[:, 1], down[:, 1]).rad2deg(), -5, 5, error=1e-3)
    assert_uniform(1 / torch.hypot(right[:, 1], down[:, 1]), 0.9, 1.1, error=1e-5)


def test_half_of_the_views_are_mirrored_and_none_is_sheared(viewed):
    _, right, down = viewed
    mirror = right[:, 0].sign()
    assert (mirror < 0).float().mean() == pytest.approx(0.5, abs=0.03)
    assert_allclose(right[:, 0], mirror * down[:, 1], atol=1e-5)
    assert_allclose(down[:, 0], -mirror * right[:, 1], atol=1e-5)


def test_views_are_shifted_by_5_percent_of_the_shorter_side_at_most(viewed):
    shift, _, _ = viewed
    assert_uniform(shift[:, 0], -0.05, 0.05, error=1e-5)
    assert_uniform(shift[:, 1], -0.05, 0.05, error=1e-5)


def test_draws_of_one_view_are_independent(viewed):
    shift, right, down = viewed
    angle, size = torch.atan2(right[:, 1], down[:, 1]), torch.hypot(right[:, 1], down[:, 1])
    draws = torch.stack([*shift.T, angle, size, right[:, 0].sign()])
    assert (draws.corrcoef() - torch.eye(5)).abs().max() < 0.12


def test_light_of_views():
    """Brightness of ±0.1, contrast of ±10 % about the mean of all channels."""
    images = torch.tensor([0.4, 0.6])[:, None, None].repeat(1000, 1, 4, 4)
    views = random_views(images, generator=generator())
    assert_uniform(views.mean(dim=(1, 2, 3)) - 0.5, -0.1, 0.1, error=1e-6)
    assert_uniform((views[:, 1] - views[:, 0]).mean(dim=(1, 2)) / 0.2, 0.9, 1.1, error=1e-5)


def test_border_of_views_is_mirrored():
    none = dict(degrees=0, scale=0, flip=0, brightness=0, contrast=0)
    views = random_views(maps(50, 64, 64), generator=generator(), translate=0.5, **none)
    source = read_maps(views)
    shift = source[:, :, 31:33, 31:33].mean(dim=(2, 3))[:, :, None, None]
    beyond = (coordinates(64, 64) + shift).abs()
    assert (beyond > 0.9).any()
    expected = 0.5 - (beyond - 0.5).abs()  # as far inside the border as it is outside
    assert (source.abs() - expected).abs().max() < 1 / 64


def moments(masks):
    """Centre (n, 2), long and thin side and angle of masks (n, H, W), taken as rectangles."""
    x, y = coordinates(*masks.shape[1:])
    x, y, masks = x[0], y[:, 0], masks.float()
    columns, rows, area = masks.sum(dim=1), masks.sum(dim=2), masks.sum(dim=(1, 2))
    cx, cy = columns @ x / area, rows @ y / area
    xx, yy = columns @ x**2 / area - cx**2, rows @ y**2 / area - cy**2
    xy = masks @ x @ y / area - cx * cy
    middle, half = (xx + yy) / 2, torch.hypot((xx - yy) / 2, xy)
    long, thin = (12 * (middle + half)).sqrt(), (12 * (middle - half).clamp(min=0)).sqrt()
    return torch.stack([cx, cy], dim=1), long, thin, torch.atan2(2 * xy, xx - yy) / 2


@contextmanager
def in_the_middle():
    """Place every defect in the middle, so that no border cuts it."""

    def centers(images, x, y, generator):
        return torch.zeros(len(images), 2), torch.tensor([0.4, 0.4])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(augmentation, "_draw_centers", centers)
        yield


@pytest.fixture(scope="module")
def pasted():
    """Return the masks and the brightness of 500 pasted pieces, and which of them are scars."""
    with in_the_middle():
        change = cutpaste(gray(500, 64), generator=generator())[:, 0] - 0.5
    masks = change != 0
    scar = moments(masks)[2] < 0.07  # patches are 0.08 wide at least
    return masks, change.sum(dim=(1, 2)) / masks.sum(dim=(1, 2)), scar


def test_half_of_the_pasted_pieces_are_scars(pasted):
    assert pasted[2].float().mean() == pytest.approx(0.5, abs=0.04)


def test_patches_cover_2_to_15_percent_at_side_ratios_of_3_at_most(pasted):
    masks, _, scar = pasted
    patches = masks[~scar]
    width, height = (patches.any(dim=d).float().mean(dim=1) for d in (1, 2))
    area = patches.float().mean(dim=(1, 2))
    assert_allclose(area, width * height, rtol=1e-5)  # upright, unlike scars
    assert_uniform(area, 0.02, 0.15, error=0.005)
    assert_uniform((width / height).log(), -math.log(3), math.log(3), error=0.05)


def test_scars_are_1_to_6_percent_wide_and_10_to_40_percent_long_at_any_angle(pasted):
    masks, _, scar = pasted
    _, long, _, angle = moments(masks[scar])
    assert_uniform(long, 0.1, 0.4, error=0.01)
    assert_uniform(masks[scar].float().mean(dim=(1, 2)) / long, 0.01, 0.06, error=0.003)
    assert_uniform(angle.rad2deg(), -90, 90, error=1)


def test_pasted_pieces_are_up_to_15_percent_darker_or_lighter(pasted):
    assert_uniform(pasted[1], -0.15, 0.15, error=1e-5)


def test_pieces_are_pasted_in_the_inner_four_fifths():
    """Short scars are measured, because no border cuts them. The image is not square."""
    images = torch.full((600, 1, 32, 64), 0.5)
    masks = (cutpaste(images, generator=generator()) != images)[:, 0]
    centre, long, thin, _ = moments(masks)
    x, y = centre[(thin < 0.07) & (long < 0.2)].T
    assert_uniform(x, -0.8, 0.8, error=0.02)
    assert_uniform(y, -0.4, 0.4, error=0.02)


def test_pieces_come_from_a_fifth_of_the_inner_part_away_or_more():
    """They come from the other side in both directions, at 0.2 to 1.2 times the reach."""
    images = maps(600, 32, 32)
    out = cutpaste(images, generator=generator())
    masks = out[:, 2] != 0.5
    centre, _, thin, _ = moments(masks)
    whole = (centre.abs() < 0.15).all(dim=1) & (thin > 0.07)  # patches that no border cuts
    out, centre = out[whole], centre[whole]
    source = read_maps(out - (out[:, 2:] - 0.5))
    column, row = ((centre + 0.5) * 32).long().T
    here = coordinates(32, 32)[:, row, column].T
    move = source[torch.arange(len(out)), :, row, column] - here
    sure = centre.abs() > 0.02
    assert (move[sure].sign() == -centre[sure].sign()).all()
    reach = 0.8 * 0.5 * 31 / 32  # from the middle of the outermost pixels
    assert_uniform(move.abs().flatten() / reach, 0.2, 1.2, error=1e-4)


def test_quarter_turns_are_equally_likely():
    images = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).repeat(3000, 1, 1, 1) / 4
    corner = 4 * rotation(images, generator=generator())[:, 0, 0, 0]
    assert torch.bincount(corner.long(), minlength=5)[2:] / 3000 == pytest.approx(1 / 3, abs=0.03)


def test_turned_images_that_are_not_square_are_stretched_to_fit():
    images = 0.5 + 0.25 * coordinates(8, 24)[:1].repeat(40, 1, 1, 1)
    out = rotation(images, generator=generator())[:, 0]
    upside_down = (out == images[:, 0].flip(1, 2)).all(dim=2).all(dim=1)
    assert 5 < upside_down.sum() < 25
    for turned in out[~upside_down]:
        down = turned[:, 0] if turned[0, 0] < turned[-1, 0] else turned[:, 0].flip(0)
        # 24 pixels averaged by threes would be even: bilinear reads the middle one of them
        assert_allclose(down, images[0, 0, 0, 1::3], rtol=1e-5)
        assert_allclose(turned, turned[:, :1].expand(-1, 24), rtol=1e-5)


def test_tiles_go_anywhere_and_the_rest_stays():
    """Every tile is as likely in every place; rows and columns beyond a multiple of 4 stay."""
    images = torch.arange(16.0).view(4, 4).repeat_interleave(2, 0).repeat_interleave(2, 1)
    images = torch.nn.functional.pad(images, (0, 3, 0, 1), value=20.0).repeat(3000, 1, 1, 1)
    out = patch_shuffle(torch.cat([images, 100 + images], 1), generator=generator())
    assert_allclose(out[:, 1], out[:, 0] + 100, rtol=1e-5)  # colours stay together
    assert (out[:, 0, 8:] == 20).all() and (out[:, 0, :, 8:] == 20).all()
    places = out[:, 0, :8:2, :8:2].flatten(1).long()
    counts = torch.nn.functional.one_hot(places, 16).float().mean(dim=0)
    assert (counts - 1 / 16).abs().max() < 0.02


def test_noise_covers_2_to_15_percent_at_an_opacity_of_30_percent_or_more():
    """The same random values on black and on white images give the opacity."""
    black, white = (noise_texture(gray(500, 32, v), generator=generator())[:, 0] for v in (0, 1))
    opacity = black + 1 - white
    inside = opacity > 0.01
    strength = opacity.amax(dim=(1, 2))
    even = inside * strength[:, None, None]
    assert_allclose(opacity, even, atol=1e-5)
    assert_uniform(strength, 0.3, 1, error=1e-5)
    assert_uniform(inside.float().mean(dim=(1, 2)), 0.02, 0.15, error=1 / 1024)
    colour = (black / strength[:, None, None])[inside]
    assert colour.mean() == pytest.approx(0.5, abs=0.01)
    assert colour.std() == pytest.approx(0.24, abs=0.01)


def test_noise_has_colours():
    change = noise_texture(torch.full((50, 3, 32, 32), 0.5), generator=generator()) - 0.5
    between = torch.corrcoef(change.movedim(1, 0).flatten(1)) - torch.eye(3)
    assert between.abs().max() < 0.4


def cracks(seed, n, side):
    """Cracks in white images: how far each pixel is inside, 0 to 1, and how much darker."""
    with in_the_middle():
        change = 1 - crack(gray(n, side, 1), generator=generator(seed))[:, 0]
    darker = change.amax(dim=(1, 2), keepdim=True)
    return change / darker, darker.flatten()


def test_cracks_are_15_to_60_percent_long_and_a_pixel_wide_at_least():
    inside, _ = cracks(0, 500, 40)  # all are a pixel wide
    length = inside.sum(dim=(1, 2)) / 40 - 0.04  # the ends add a good pixel
    assert_uniform(length, 0.15, 0.6, error=0.01)


def test_cracks_are_thin_and_darker_by_15_to_60_percent():
    """0.6 to 2.5 % wide: the area, over the length of the same crack where it is a pixel wide."""
    widths, changes = [], []
    for seed in range(4):
        inside, darker = cracks(seed, 40, 170)
        coarse = cracks(seed, 40, 40)
        length = (coarse[0].sum(dim=(1, 2)) * coarse[1] / darker) / 40
        widths.append(inside.mean(dim=(1, 2)) / length)
        changes.append(darker)
    assert_uniform(torch.cat(widths), 0.006, 0.025, error=0.001)
    assert_uniform(torch.cat(changes), 0.15, 0.6, error=1e-3)


@pytest.mark.parametrize(
    "level, darker", [(0.14, 0), (0.16, 0.75), (0.5, 0.75), (0.84, 0.75), (0.86, 1)]
)
def test_three_of_four_cracks_are_darker_where_they_can_be(level, darker):
    """The mean of the colours along the crack decides."""
    colour = level + torch.tensor([-0.06, -0.06, 0.12])
    images = torch.full((400, 3, 16, 16), 0.5)
    crossed = crack(images, generator=generator()) != 0.5
    images = torch.where(crossed, colour[:, None, None], 1 - images)
    change = (crack(images, generator=generator()) - images).mean(dim=(1, 2, 3))
    assert (change < 0).float().mean() == pytest.approx(darker, abs=0.04)


def test_cracks_run_in_all_directions():
    images = gray(400, 24)
    crossed = crack(images, generator=generator())[:, 0] != 0.5
    angle = moments(crossed)[3]
    assert_uniform(angle.rad2deg(), -90, 90, error=2)
