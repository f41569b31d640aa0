import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from skcoft import COFTDetector, COFTEmbedder
from skcoft._sizes import ENLARGED, MULTIPLE, Sizing, native_sizing, own_shape


@pytest.mark.parametrize(
    "shape, pixels, expected",
    [
        ((880, 352), 260**2, (416, 160)),
        ((352, 880), 260**2, (160, 416)),
        ((256, 256), 256**2, (256, 256)),
        ((100, 100), 128**2, (128, 128)),
        ((5000, 10), 128**2, (2848, 32)),  # no side is lost
    ],
)
def test_shape_is_kept_and_sides_are_multiples(shape, pixels, expected):
    assert own_shape(shape, pixels, 32) == expected


def test_numbers():
    assert ENLARGED == 128**2 and MULTIPLE == 32


def test_shots_settle_the_number_of_pixels():
    """The middle one of theirs, between 128² and the most; a later image has as many."""
    few = native_sizing([(200, 200)] * 3, 260**2)
    assert few.pixels == 200**2 and few.size == (192, 192)
    assert few.of((1000, 1000)) == few.of((100, 100)) == few.size
    assert few.of((1000, 500)) == (288, 128)
    assert native_sizing([(8, 8)], 260**2).pixels == 128**2
    assert native_sizing([(8, 8)], 100**2).pixels == 100**2
    assert native_sizing([(900, 900)], 260**2).pixels == 260**2
    mixed = native_sizing([(100, 200), (400, 200), (300, 300)], 260**2)
    assert mixed.pixels == 260**2 and mixed.size == (256, 256)
    assert native_sizing([(8, 8)], 224**2, 16, least=224**2) == Sizing((224, 224), 224**2, 16)


def test_one_size_for_all():
    assert Sizing((64, 32)).of((900, 900)) == (64, 32)
    sizing = native_sizing([(200, 200)], 260**2)
    assert sizing.one_for_all == Sizing((192, 192))


@pytest.fixture
def bars():
    """11 images of bright bars on noise: tall, wide, of two resolutions."""
    rng = np.random.default_rng(0)

    def bar(height, width):
        image = rng.integers(0, 60, (height, width), dtype=np.uint8)
        image[height // 3 : height // 2] += 150
        return image

    shapes = [(60, 40), (40, 60), (60, 40), (90, 60)]
    return [bar(*shapes[i % 4]) for i in range(11)]


FAST = dict(backbone="resnet10t", weights=None, random_state=0, max_iter=0, n_views=1)


def test_images_of_mixed_shapes_each_keep_their_own(bars):
    """Also when fitted on; an image alone has the score and the map that it has among others."""
    fitted = COFTDetector(**{**FAST, "max_iter": 1, "max_pixels": 96 * 64}).fit(bars[:6])
    assert fitted.embedder_.image_size_ == (96, 64)
    scores, maps = fitted.score_samples(bars), fitted.anomaly_map(bars)
    assert [drawn.shape for drawn in maps] == [image.shape for image in bars]
    for i in (1, 3, 7):
        assert_array_equal(fitted.score_samples([bars[i]]), scores[[i]])
        assert_array_equal(fitted.anomaly_map([bars[i]])[0], maps[i])
    order = np.random.default_rng(1).permutation(len(bars))
    assert_array_equal(fitted.score_samples([bars[i] for i in order]), scores[order])
    resized = COFTDetector(**{**FAST, "image_size": (96, 64)}).fit(bars[:6])
    assert not np.allclose(resized.score_samples(bars)[1], scores[1])


def test_a_shape_of_ones_own_is_as_if_it_had_been_asked_for(bars):
    """Of images that share one shape: the same, to the bit, from arrays and lists."""
    X = np.stack([bars[0], bars[2], bars[4]])
    native = COFTEmbedder(**{k: v for k, v in FAST.items() if k != "n_views"}, max_pixels=6144)
    fixed = COFTEmbedder(
        "resnet10t", weights=None, image_size=(96, 64), max_iter=0, random_state=0
    )
    expected = fixed.fit(X).transform(X)
    assert_array_equal(native.fit(X).transform(X), expected)
    assert_array_equal(native.fit(list(X)).transform(list(X)), expected)


def test_files_of_mixed_shapes(bars, tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(len(bars))]
    for path, image in zip(paths, bars, strict=True):
        Image.fromarray(image).save(path)
    fitted = COFTDetector(**FAST, max_pixels=96 * 64, n_jobs=2).fit(paths[:6])
    expected = COFTDetector(**FAST, max_pixels=96 * 64).fit(bars[:6])
    assert_allclose(fitted.score_samples(paths), expected.score_samples(bars), rtol=1e-12)


def test_more_shots_of_another_shape(bars):
    fitted = COFTDetector(**FAST, max_pixels=96 * 64).fit(bars[:5])
    before = fitted.score_samples(bars[5:])
    fitted.partial_fit([np.ascontiguousarray(bars[5].T)])
    assert fitted.embeddings_.shape[0] == 6 and not np.allclose(
        fitted.score_samples(bars[5:]), before
    )


@pytest.mark.parametrize("max_pixels", [0, 1.5, "all", (64, 64)])
def test_max_pixels_is_a_number(max_pixels, bars):
    with pytest.raises(ValueError, match="'max_pixels' parameter .* an integer >= 1 or None"):
        COFTDetector(max_pixels=max_pixels).fit(bars)


def test_a_transformer_takes_the_shape_of_the_shots(bars):
    fitted = COFTDetector(**{**FAST, "backbone": "test_vit"}).fit(bars[0::4])
    assert fitted.embedder_.image_size_ == (192, 128)
    assert fitted.embedder_.network_.body.patch_embed.grid_size == (12, 8)
    assert np.isfinite(fitted.score_samples(bars)).all()
    shapes = {np.shape(fitted.anomaly_map([image])) for image in bars[:2]}
    assert shapes == {(1, 60, 40), (1, 40, 60)}
