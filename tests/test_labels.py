import numpy as np
import pytest
from numpy.testing import assert_array_equal

from skcoft._labels import check_labels, parse_labels, split_by_label, split_for_training
from skcoft._rows import Rows

ROWS = Rows(np.arange(8.0).reshape(4, 2))


@pytest.mark.parametrize(
    "y", [[1, -1, 1, -1], [1, 0, 1, 0], [True, False, True, False], np.array([1.0, 0, 1, 0])]
)
def test_zero_and_minus_one_are_anomalous(y):
    assert_array_equal(parse_labels(ROWS, y), [1, -1, 1, -1])
    assert_array_equal(check_labels(ROWS, y), [1, -1, 1, -1])
    normals, anomalies = split_by_label(ROWS, y)
    assert_array_equal(normals.values, ROWS.values[[0, 2]])
    assert_array_equal(anomalies.values, ROWS.values[[1, 3]])


@pytest.mark.parametrize("y", [[0, 1, 2, 1], ["a", "b", "a", "b"], [-1, 0, 1, 1]], ids=str)
def test_other_labels_name_nothing_in_fit_and_are_refused_elsewhere(y):
    assert parse_labels(ROWS, y) is None
    assert split_by_label(ROWS, y) == (ROWS, None)
    with pytest.raises(ValueError, match=r"\+1 \(normal\) and -1 \(anomalous\); got labels \["):
        check_labels(ROWS, y)


def test_without_labels_and_of_one_label():
    assert split_by_label(ROWS, None) == (ROWS, None)
    normals, anomalies = split_by_label(ROWS, [1] * 4)
    assert len(normals) == 4 and anomalies is None
    with pytest.raises(ValueError, match="no normal image .* among n_samples=4"):
        split_by_label(ROWS, [0] * 4)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        parse_labels(ROWS, [1, -1])


@pytest.mark.parametrize("negatives", ["labelled", ["cutpaste", "labelled"]], ids=str)
def test_anomalies_are_trained_against_only_where_asked_for(negatives):
    y = [1, 1, -1, -1]
    assert len(split_for_training(ROWS, y, negatives)[1]) == 2
    for other in ("cutpaste", ["crack"], None):
        normals, anomalies = split_for_training(ROWS, y, other)
        assert len(normals) == 2 and anomalies is None
