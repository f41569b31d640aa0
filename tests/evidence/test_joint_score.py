from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from skcoft._evidence.backbone_score import BackboneScore
from skcoft._evidence.joint_score import EQUAL_EMBEDDING_TOL, JointScore
from skcoft._evidence.maps import resize_map
from skcoft._network.support import Support


class Part:
    """A part of known scores: what it keeps of an image is its score."""

    needs_patches = True  # so that it scores the shots itself

    def __init__(self, held_out, weight=1.0, maps=False):
        self.held_out_scores, self.weight = np.array(held_out, dtype=float), weight
        if maps:
            self.log_maps = None

    def score(self, kept):
        return kept


def joint(*parts):
    return JointScore([BackboneScore(None, 1, None, dict(zip("abc", parts, strict=False)), {})])


A, B = (0, "a"), (0, "b")


def test_one_part_is_left_as_it_is():
    alone = joint(Part([5.0, 7.0]))
    assert_allclose(alone.held_out_scores(), [5, 7])
    assert_allclose(alone.score({A: np.array([1.0, 2.0])}), [1, 2])


def test_others_are_brought_to_the_scale_of_the_first_and_weighed():
    """Scores vary alike over held-out shots, times the part's weight; means are taken away."""
    both = joint(Part([5.0, 7.0]), Part([100.0, 140.0], weight=3))  # deviations of 1 and 20
    assert_allclose(both.held_out_scores(), [5 - 3, 7 + 3])
    kept = {A: np.array([6.0]), B: np.array([160.0])}
    assert_allclose(both.score(kept), [6 + 3 * 2])


def supported(*embeddings):
    """A joint score of two backbones or more, with these embeddings of the shots."""
    scores = [
        BackboneScore(
            None,
            1,
            replace(Support.allot(range(len(rows)), 0, False), embeddings=np.array(rows)),
            {"image": Part(np.arange(len(rows)) + 0.5)},
            {},
        )
        for rows in embeddings
    ]
    return JointScore(scores)


def test_training_images_are_recognised_by_their_embeddings_for_all_backbones():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(2, 50, 6))
    rows[:, 7, [0, 1]] = rows[:, 3, [1, 0]]  # equal means, but another embedding
    rows[:, 7, 2:] = rows[:, 3, 2:]
    rows[:, 30] = rows[:, 20]  # a duplicate
    fitted = supported(*rows)
    images = rows[:, [3, 7, 49, 20, 30]].copy()
    images[:, 2] += 0.9 * EQUAL_EMBEDDING_TOL * np.array([1, -1, 1, -1, 1, -1])
    summaries = {(i, "image"): images[i] for i in (0, 1)}
    assert fitted.recognize(summaries).tolist() == [3, 7, 49, 20, 20]
    summaries[1, "image"][0, 5] += 1.1 * EQUAL_EMBEDDING_TOL
    assert fitted.recognize(summaries).tolist() == [-1, 7, 49, 20, 20]
    new = {(i, "image"): rng.normal(size=(4, 6)) for i in (0, 1)}
    assert fitted.recognize(new).tolist() == [-1] * 4


def test_held_out_scores_of_images_are_those_of_rows_that_are_shots():
    scores = np.arange(8.0)
    support = Support.allot(range(4), 0, True)  # rows of shots, then of mirror images
    both = JointScore([BackboneScore(None, 1, support, {"a": Part(scores)}, {})])
    assert_allclose(both.held_out_image_scores(), [0, 1, 2, 3])


def test_a_third_part_is_added_likewise():
    three = joint(Part([5.0, 7.0]), Part([0.0, 4.0]), Part([0.0, -2.0], weight=0.5))
    assert_allclose(three.held_out_scores(), [5 - 1 + 0.5, 7 + 1 - 0.5])


@pytest.mark.parametrize("first, other", [([5.0, 5.0], [1.0, 3.0]), ([5.0, 7.0], [2.0, 2.0])])
def test_scores_without_any_spread(first, other):
    """The weight is then 1, or the first part's own spread."""
    both = joint(Part(first), Part(other))
    weight = np.std(first) or 1.0
    kept = {A: np.array([6.0]), B: np.array([9.0])}
    assert_allclose(both.score(kept), [6 + weight * (9 - 2)])


def test_maps_are_on_the_scale_of_held_out_shots():
    """0 is the mean of the held-out scores, 1 a standard deviation below."""
    drawing = joint(Part([0.0, 1.0]), Part([10.0, 14.0], maps=True))
    assert list(drawing.map_components()) == [B]
    seen = np.array([[[12.0, 10.0, 8.0]]])
    assert_allclose(drawing.maps({B: seen}), [[[0, 1, 2]]])


def test_maps_of_several_parts_are_averaged():
    drawing = joint(Part([10.0, 14.0], maps=True), Part([0.0, 2.0], maps=True))
    maps = drawing.maps({A: np.full((1, 1, 2), 10.0), B: np.full((1, 1, 2), -2.0)})
    assert_allclose(maps, [[[2, 2]]])


def test_parts_of_another_branch_count_likewise():
    parts = Part([5.0, 7.0]), Part([100.0, 140.0], weight=3)
    two = JointScore([BackboneScore(None, 1, None, {"a": part}, {}) for part in parts])
    assert_allclose(two.held_out_scores(), [5 - 3, 7 + 3])
    kept = {(0, "a"): np.array([6.0]), (1, "a"): np.array([160.0])}
    assert_allclose(two.score(kept), [6 + 3 * 2])


def test_scores_count_by_the_scale_that_images_were_seen_at():
    parts = Part([5.0, 7.0]), Part([100.0, 140.0], weight=3)
    two = JointScore(
        [BackboneScore(None, s, None, {"a": p}, {}) for s, p in zip((1, 0.5), parts, strict=True)]
    )
    kept = {(0, "a"): np.array([6.0]), (1, "a"): np.array([160.0])}
    assert_allclose(two.score(kept), [6 + 0.5 * 3 * 2])
    assert_allclose(two.held_out_scores(), [5 - 1.5, 7 + 1.5])


def test_maps_count_by_the_area_that_images_were_seen_at():
    parts = Part([10.0, 14.0], maps=True), Part([0.0, 2.0], maps=True)
    two = JointScore(
        [BackboneScore(None, s, None, {"a": p}, {}) for s, p in zip((1, 0.5), parts, strict=True)]
    )
    maps = two.maps({(0, "a"): np.full((1, 1, 2), 10.0), (1, "a"): np.full((1, 1, 2), -2.0)})
    assert_allclose(maps, [[[(4 * 1 + 3) / 5] * 2]])


def test_maps_of_other_grids_are_enlarged_to_the_finest():
    drawing = joint(Part([10.0, 14.0], maps=True), Part([0.0, 2.0], maps=True))
    coarse, fine = np.array([[[12.0]]]), np.array([[[1.0, -1.0], [1.0, 1.0]]])
    assert_allclose(drawing.maps({A: coarse, B: fine}), [[[0, 1], [0, 0]]])
    assert_allclose(resize_map(np.array([[0.0, 4.0]]), (1, 4)), [[0, 1, 3, 4]])
    same = np.zeros((2, 2))
    assert resize_map(same, (2, 2)) is same
