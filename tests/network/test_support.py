import dataclasses

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from skcoft._network.support import MIRROR, PROBE, SHOT, VIEW, Support


def make_support(n_shots, n_views, mirror, first=0):
    rows = Support.allot(np.arange(n_shots) + first, n_views, mirror)
    embeddings = np.arange(2.0 * len(rows.roles)).reshape(-1, 2)
    patches = list(np.zeros((len(rows.roles), 1, 1, 2)))
    return dataclasses.replace(rows, embeddings=embeddings, patches=patches)


def test_rows_are_shots_then_mirror_images_then_views():
    rows = Support.allot([10, 11, 12, 13], 2, mirror=True)
    assert_array_equal(rows.roles, np.repeat([SHOT, MIRROR, VIEW, VIEW], 4))
    assert_array_equal(rows.shot_ids, [10, 11, 12, 13] * 4)
    assert rows.n_shots == 4
    assert_array_equal(rows.is_shot, np.arange(16) < 4)
    plain = Support.allot(range(4), 0, mirror=False)
    assert_array_equal(plain.roles, [SHOT] * 4)


@pytest.mark.parametrize(("n_shots", "includes_views"), [(1, True), (3, True), (4, False)])
def test_views_of_fewer_than_four_shots_are_calibration_rows(n_shots, includes_views):
    rows = Support.allot(range(n_shots), 3, mirror=True)
    assert_array_equal(rows.is_calibration, includes_views | (rows.roles != VIEW))


def test_no_density_is_fitted_on_probes():
    rows = Support.allot([0, 1, 2, 3], 1, True, n_probes=2)
    assert_array_equal(rows.roles, np.repeat([SHOT, MIRROR, VIEW, PROBE, PROBE], 4))
    assert_array_equal(rows.is_view, np.arange(20) >= 8)
    assert_array_equal(Support.allot([0], 1, False, 1).is_calibration, [True, True, False])
    full = dataclasses.replace(rows, embeddings=np.arange(20.0)[:, None], patches=[*range(20)])
    fitted_on = full.without_probes()
    assert_array_equal(fitted_on.embeddings[:, 0], np.arange(12))
    assert fitted_on.patches == [*range(12)]
    for name in ("shot_ids", "roles", "is_calibration"):
        assert_array_equal(getattr(fitted_on, name), getattr(full, name)[:12])


def test_images_with_one_id_are_one_shot():
    rows = Support.allot([0, 1, 0, 3, 3], 1, mirror=True)
    assert (rows.n_shots, rows.n_images) == (3, 5)
    assert rows.is_calibration.all()  # because there are only three shots
    assert_array_equal(rows.shot_ids, [0, 1, 0, 3, 3] * 3)


def test_a_shot_is_a_group_and_the_rows_of_a_single_shot_are_groups():
    assert_array_equal(make_support(3, 1, False).groups, [0, 1, 2, 0, 1, 2])
    assert_array_equal(make_support(1, 2, True).groups, [0, 1, 2, 3])


def test_extend_appends_rows_and_drops_patches():
    first, added = make_support(5, 1, True), make_support(2, 1, True, first=5)
    joined = first.extend(added)
    assert joined.n_shots == 7 and joined.patches is None
    for name in ("embeddings", "shot_ids", "roles", "is_calibration"):
        halves = getattr(first, name), getattr(added, name)
        assert_array_equal(getattr(joined, name), np.concatenate(halves))
    assert joined.is_calibration.sum() == 5 * 2 + 2 * 3  # with views of the two
    assert joined.moves is None
    moves = np.ones((10, 2))
    first = dataclasses.replace(first, moves=moves, move_ids=np.tile(np.arange(5), 2))
    # a model of an earlier version stays without
    assert added.extend(first).moves is None and added.extend(first).move_ids is None
    added = dataclasses.replace(
        added, moves=2 * moves[:4], move_ids=np.array([5, 6, 5, 6]), patch_moves=[]
    )
    joined = first.extend(added)
    assert_array_equal(joined.moves[:, 0], [1] * 10 + [2] * 4)
    assert_array_equal(joined.move_ids, [*range(5), *range(5), 5, 6, 5, 6])
    assert joined.patch_moves is None
    assert first.without_patches().patches is None
    assert first.patches is not None


def test_moves_of_a_held_out_shot_are_left_out():
    support = make_support(3, 1, True)
    assert support.moves_held_out(support.shot_ids != 1) is None
    moves = np.arange(6.0)[:, None]
    support = dataclasses.replace(support, moves=moves, move_ids=np.tile(np.arange(3), 2))
    assert_array_equal(support.moves_held_out(support.shot_ids != 1)[:, 0], [0, 2, 3, 5])
    rare = dataclasses.replace(support, moves=moves[:2], move_ids=np.array([1, 1]))
    assert rare.moves_held_out(support.shot_ids != 1) is None
    single = dataclasses.replace(make_support(1, 2, False), moves=moves, move_ids=np.zeros(6))
    assert_array_equal(single.moves_held_out(np.array([False, True, True])), moves)
