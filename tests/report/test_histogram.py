"""The histogram of scores in a report."""

import re

import numpy as np

from skcoft.report._histogram import format_score, histogram


def test_every_image_is_counted_in_a_bar_on_its_side_of_the_threshold():
    scores = np.array([-1000.0, -5, -4, -4, 1, 2, 2, 6])
    svg = histogram(scores, scores < 0, 0.0, np.array([1.0, 3]), ("normal", "odd"))
    bars = re.findall(
        r'<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)" height="([\d.]+)" fill="(.+?)"', svg
    )
    bars = [(float(x), float(x) + float(w), float(h), fill) for x, w, h, fill in bars]
    unit = 158 / 2  # the tallest bar, of two images
    assert sum(round(h / unit) for *_, h, fill in bars if fill == "#0072b2") == 4
    assert sum(round(h / unit) for *_, h, fill in bars if fill == "url(#hatch)") == 4
    threshold = float(re.search(r'<line x1="([\d.]+)"[^>]*dasharray', svg).group(1))
    for start, stop, _, fill in bars:
        assert stop <= threshold if fill == "url(#hatch)" else start >= threshold
    assert svg.count("<path") == 2
    assert "8 images: 4 normal and 4 odd. 4 are below the threshold of 0.0" in svg
    assert "the first bar includes all lower scores" in svg


def test_histogram_of_one_score_equal_to_the_threshold():
    svg = histogram(np.array([2.0]), np.array([False]), 2.0, np.array([2.0]), ("a", "b"))
    assert "nan" not in svg and svg.count('fill="#0072b2"') == 1


def test_scores_have_as_many_digits_as_distinguish_them():
    minus = "\N{MINUS SIGN}"
    assert format_score(-1234.567, 5000) == f"{minus}1,235"
    assert format_score(-12.3456, 30) == f"{minus}12.3"
    assert format_score(0.12346, 0.01) == "0.1235"
    assert format_score(3, 0) == "3.00"
