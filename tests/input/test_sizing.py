import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from skcoft import COFTDetector, COFTEmbedder
from skcoft._input.sizing import (
    DEFAULT_MULTIPLE,
    ENLARGED_PIXELS,
    Sizing,
    native_sizing,
    size_in_shape,
)
from skcoft._network.encoder import MAX_TRAINING_PIXELS, SCALES
from skcoft._network.factory import NATIVE_PIXELS_FACTOR
from skcoft._training.batches import StoredBatches


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
    assert size_in_shape(shape, pixels, 32) == expected


def test_numbers():
    assert ENLARGED_PIXELS == 2 * 128**2 and DEFAULT_MULTIPLE == 32
    assert NATIVE_PIXELS_FACTOR == 2 and SCALES == (1, 1 / 2) and MAX_TRAINING_PIXELS == 260**2 / 2


def test_shots_settle_the_number_of_pixels():
    """The middle one of theirs, from 2 · 128² to the most; a later image has as many."""
    few = native_sizing([(200, 200)] * 3, 260**2)
    assert few.pixels == 200**2 and few.size == (192, 192)
    assert few.of((1000, 1000)) == few.of((100, 100)) == few.size
    assert few.of((1000, 500)) == (288, 128)
    assert native_sizing([(8, 8)], 260**2).pixels == 2 * 128**2
    assert native_sizing([(8, 8)], 100**2).pixels == 100**2
    assert native_sizing([(900, 900)], 260**2).pixels == 260**2
    mixed = native_sizing([(100, 200), (400, 200), (300, 300)], 260**2)
    assert mixed.pixels == 260**2 and mixed.size == (256, 256)
    square = native_sizing([(8, 8)], 224**2, 16, min_pixels=224**2)
    assert square == Sizing((224, 224), 224**2, 16, (8, 8))


def test_other_scales_keep_the_shape():
    sizing = native_sizing([(880, 352)], 260**2)
    half = sizing.at(1 / 2)
    assert half.pixels == 130**2 and half.size == (192, 96) == half.of((440, 176))
    assert half.multiple == 32 and sizing.at(1) is sizing


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


def test_a_transformer_takes_the_shape_of_the_shots(bars):
    fitted = COFTDetector(**{**FAST, "backbone": "test_vit"}).fit(bars[0::4])
    assert fitted.embedder_.image_size_ == (192, 128)
    assert fitted.embedder_.network_.body.patch_embed.grid_size == (12, 8)
    assert np.isfinite(fitted.score_samples(bars)).all()
    shapes = {np.shape(fitted.anomaly_map([image])) for image in bars[:2]}
    assert shapes == {(1, 60, 40), (1, 40, 60)}


def test_images_are_scored_at_half_their_size_too(bars):
    """By densities of their own, all joined; embeddings are those of the full size."""
    fitted = COFTDetector(**FAST, max_pixels=128 * 96).fit(bars[:6])
    assert [branch.scale for branch in fitted._model.joint.backbone_scores] == [1, 1 / 2]
    single = COFTDetector(**FAST, max_pixels=128 * 96, multiscale=False).fit(bars[:6])
    half = COFTDetector(**FAST, max_pixels=64 * 48, multiscale=False).fit(bars[:6])
    kept = fitted._model.summarize(fitted._read(bars))
    for i, other in enumerate((single, half)):
        found = other._model.summarize(other._read(bars))
        for name in ("image", "patch"):
            assert_array_equal(kept[i, name], found[0, name])
            assert_array_equal(
                fitted._model.joint.components[i, name].held_out_scores,
                other._model.joint.components[0, name].held_out_scores,
            )
    assert_array_equal(fitted.embeddings_, single.embeddings_)
    assert_array_equal(fitted.embed(bars), single.embed(bars))
    assert fitted.density_.bandwidth_ == single.density_.bandwidth_
    assert not np.allclose(fitted.score_samples(bars), single.score_samples(bars))


def test_one_network_for_all_scales(bars):
    """Also in a pickle; and more shots are seen at every scale."""
    fitted = COFTDetector(**FAST, max_pixels=128 * 96).fit(bars[:5])
    again = pickle.loads(pickle.dumps(fitted))
    networks = {id(branch.encoder.network) for branch in again._model.joint.backbone_scores}
    assert networks == {id(again.embedder_.network_)}
    assert_array_equal(again.score_samples(bars), fitted.score_samples(bars))
    again.partial_fit(bars[5:7])
    assert [branch.support.n_shots for branch in again._model.joint.backbone_scores] == [7, 7]
    assert len(again.embeddings_) == 7


@pytest.mark.parametrize(
    "changes", [{"image_size": (96, 64)}, {"backbone": "test_vit"}, {"multiscale": False}]
)
def test_one_scale_where_the_size_is_given_or_fixed(changes, bars):
    fitted = COFTDetector(**{**FAST, **changes}).fit(bars[0::4])
    assert len(fitted._model.joint.backbone_scores) == 1


def test_fine_tuning_is_done_at_half_the_size(bars, monkeypatch):
    """Where images may be seen at any; else at the size that was asked for."""
    shots = [bars[0], bars[2], bars[4]]
    seen = []

    def spy(encoder, stages, sample_batch, count, generator):
        shots, images = sample_batch(generator)
        seen.append(tuple(images[0].shape))
        return draw(encoder, stages, lambda generator: (shots, images), count, generator)

    draw = StoredBatches.draw
    monkeypatch.setattr(StoredBatches, "draw", spy)
    params = dict(weights=None, max_iter=1, random_state=0)
    half = COFTEmbedder("resnet10t", max_pixels=12288, **params).fit(shots)
    asked = COFTEmbedder("resnet10t", image_size=96, **params).fit(shots)
    large = np.repeat(np.repeat(shots, 10, axis=1), 10, axis=2)  # 600 x 400
    COFTEmbedder("resnet10t", max_pixels=10**6, **params).fit(large)  # at no more than 260² / 2
    assert half.image_size_ == (128, 96) and asked.image_size_ == (96, 96)
    assert seen == [(8, 3, 64, 32), (8, 3, 96, 96), (8, 3, 224, 160)]
