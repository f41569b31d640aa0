"""The benchmark of the stages of a fit."""

import time
from pathlib import Path

import numpy as np
import pytest

from skcoft import COFTDetector


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "benchmarks")


def test_a_stage_does_not_count_the_stages_inside():
    from profile_fit import Stopwatch

    stopwatch = Stopwatch()
    inner = stopwatch.wrap("inner", lambda: time.sleep(0.02))
    stopwatch.wrap("outer", inner)()
    assert stopwatch.seconds["inner"] >= 0.02 > stopwatch.seconds["outer"] > 0


def test_every_stage_is_one_of_a_fit():
    from profile_fit import STAGES, measure_stages

    detector = COFTDetector("resnet10t", weights=None, image_size=32, max_iter=0)
    images = np.random.default_rng(0).integers(0, 255, (4, 32, 32), dtype=np.uint8)
    seconds = measure_stages(lambda: detector.fit(images))
    assert {*seconds} == {*STAGES, "rest"} - {"fine-tuning"}


def test_table(tmp_path, capsys):
    from profile_fit import STAGES, main

    file = tmp_path / "parts.npz"
    np.savez(file, normal=np.random.default_rng(0).integers(0, 255, (5, 40, 40), dtype=np.uint8))
    for images in ([], ["--images", str(file), "--views", "1", "--density", "gaussian"]):
        arguments = ["--pixels", "32", "--shots", "4", "5", "--backbone", "resnet10t"]
        main([*arguments, "--random-weights", *images])
        settings, columns, *lines = capsys.readouterr().out.splitlines()
        assert settings.endswith("gaussian" if images else "kde")
        assert columns.split() == ["32", "px,", "4", "32", "px,", "5"]
        assert [line[:24].strip() for line in lines] == [*STAGES, "rest", "fit"]
        assert lines[-1].split()[3::4] == ["100", "100"]
