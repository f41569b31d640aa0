"""The benchmarks of fine-tuning and of partial_fit."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """Let the scripts import each other by name, as when they are run."""
    monkeypatch.syspath_prepend(FOLDER)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Folder of a data set of noise, of which some images have a bright spot."""
    rng = np.random.default_rng(0)
    normal, spots = (rng.integers(0, 100, (n, 16, 16), dtype=np.uint8) for n in (20, 4))
    spots[:, 4:8, 4:8] = 255
    folder = tmp_path_factory.mktemp("data")
    np.savez(folder / "noise.npz", normal=normal, anomaly_spot=spots)
    return folder


def arguments(data, *others):
    options = ["--data", data, "--shots", 4, "--seeds", 1, "--max-test", 3, *others]
    return list(map(str, options))


@pytest.mark.slow
def test_finetuning(data, tmp_path, capsys):
    finetuning = importlib.import_module("finetuning")
    file = tmp_path / "figures.jsonl"
    variants = ["linear map of patches", "head alone, rate 5e-4"]
    command = arguments(data, "--json", file, "--variants", *variants)
    finetuning.main(command)
    first = capsys.readouterr().out
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert [row["variant"] for row in rows] == ["frozen", *variants]
    assert all(row["task"] == "noise" and 0 <= row["auroc"] <= 100 for row in rows)
    frozen, *differences = first.splitlines()[2:]
    assert float(frozen.split()[1]) == rows[0]["auroc"]
    for row, line in zip(rows[1:], differences, strict=True):
        expected = round(row["auroc"] - rows[0]["auroc"], 1)
        assert float(line.removeprefix(row["variant"]).split()[0]) == expected
        assert line.endswith("1 of 1 fits train")
    finetuning.main(command)  # measures nothing again
    assert capsys.readouterr().out == first
    assert len(file.read_text().splitlines()) == 3


def test_linear_map_of_patches():
    """The map shrinks a direction in which the same patches of different shots differ."""
    finetuning = importlib.import_module("finetuning")
    generator = torch.Generator().manual_seed(0)
    kinds = 3 * torch.eye(4).repeat(2, 1)  # four kinds of patches in each of two shots
    shots = torch.arange(2).repeat_interleave(4)
    patches = torch.cat([kinds, torch.tensor([1.5, -1.5]).repeat_interleave(4)[:, None]], dim=1)
    fitted = finetuning.fit_map(patches, shots, generator)
    before, after = patches.std(0), (patches @ fitted).std(0)
    assert after[4] < 0.95 * before[4] and torch.all(after[:4] > 0.97 * before[:4])


@pytest.mark.slow
def test_partial(data, capsys):
    partial = importlib.import_module("partial")
    partial.main(arguments(data))
    settings, columns, *lines = capsys.readouterr().out.splitlines()
    assert settings == "4 shots, 1 seeds, max_test=3" and columns.split() == ["mean", "noise"]
    assert [line.split(":")[0] for line in lines[::3]] == list(partial.WAYS)
    names = [line.split(":")[1].split()[0] for line in lines]
    assert names == 3 * list(partial.FIGURES)


def test_ways_of_fitting(monkeypatch):
    partial = importlib.import_module("partial")
    calls = []

    class Detector:
        def __init__(self, **parameters):
            assert parameters["max_iter"] == 0

        def fit(self, X):
            calls.append(["fit", *X])

        def partial_fit(self, X):
            calls.append(["partial_fit", *X])

    monkeypatch.setattr(partial, "COFTDetector", Detector)
    for n_calls in partial.WAYS.values():
        partial.Grown(0, n_calls).fit(np.arange(4))
    one = [["fit", 0, 1, 2, 3]]
    two = [["fit", 0, 1], ["partial_fit", 2, 3]]
    single = [["fit", 0, 1], ["partial_fit", 2], ["partial_fit", 3]]
    assert calls == [*one, *two, *single]
