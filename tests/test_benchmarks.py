"""The benchmark scripts, on tiny random data sets in the format that they document."""

import importlib
import json
import re
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from numpy.testing import assert_array_equal
from safetensors.torch import save_file

from skcoft import COFTDetector
from skcoft._network.encoder import Features
from skcoft.datasets import make_plates

FOLDER = Path(__file__).parent.parent / "benchmarks"
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "peers")


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """Let the scripts import each other by name, as when they are run."""
    monkeypatch.syspath_prepend(FOLDER)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Folder of two data sets: parts, some with bright spots or dents, and things of 3 classes."""
    rng = np.random.default_rng(0)
    normal, spots, dents = (rng.integers(0, 100, (n, 16, 16), dtype=np.uint8) for n in (20, 4, 3))
    mask = np.zeros((4, 16, 16), dtype=np.uint8)
    mask[:, 4:8, 4:8] = 255
    spots[mask > 0] = 255
    arrays = {"normal": normal, "anomaly_spot": spots, "mask_spot": mask, "anomaly_dent": dents}
    folder = tmp_path_factory.mktemp("data")
    np.savez(folder / "parts.npz", **arrays)
    classes = {
        f"class_{name}": rng.integers(low, low + 50, (70 + low, 8, 8, 3), dtype=np.uint8)
        for name, low in (("a", 0), ("b", 10), ("c", 20))
    }
    np.savez(folder / "things.npz", **classes)
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = timm.create_model("resnet10t", num_classes=0)
    save_file(network.state_dict(), folder / "resnet10t.safetensors")
    return folder


class BrightestPixel:
    """Scores images by their brightest pixel; with ``sign=-1`` bright images are normal."""

    offset_ = 0

    def __init__(self, sign=1):
        self.sign = sign

    def fit(self, images):
        return self

    def score_samples(self, images):
        return -self.sign * images.max(axis=(1, 2)).astype(float)

    def anomaly_map(self, images):
        return self.sign * images.astype(float)


def test_tasks_of_a_data_set_with_defects(data):
    from fewshot import draw_shots, load_tasks

    (task,) = load_tasks(data / "parts.npz", max_test=3)
    assert task.name == "parts"
    assert [len(x) for x in (task.pool, task.normal)] == [10, 3]
    assert {kind: len(x) for kind, x in task.anomalies.items()} == {"spot": 3, "dent": 3}
    assert list(task.masks) == ["spot"] and len(task.masks["spot"]) == 3
    shots = draw_shots(task, 4, seed=1)
    assert len(shots) == 4 and all((task.pool == shot).all(axis=(1, 2)).any() for shot in shots)
    assert (shots == draw_shots(task, 4, seed=1)).all()
    assert (shots != draw_shots(task, 4, seed=2)).any()


def test_tasks_of_a_data_set_with_classes(data):
    from fewshot import load_tasks

    tasks = list(load_tasks(data / "things.npz", max_test=5))
    assert [task.name for task in tasks] == ["things/a", "things/b", "things/c"]
    assert [len(task.pool) for task in tasks] == [64] * 3
    assert [len(task.normal) for task in tasks] == [5] * 3
    assert len(tasks[0].anomalies["others"]) == 16 + 26  # images of b and c after the first 64


@pytest.mark.parametrize(("sign", "auroc", "flagged"), [(1, 100, 100), (-1, 0, 0)])
def test_measure_a_perfect_and_an_inverted_detector(data, sign, auroc, flagged):
    from fewshot import load_tasks, measure

    (task,) = load_tasks(data / "parts.npz")
    row = measure(lambda seed: BrightestPixel(sign), task, n_shots=4, seed=0, pixels=True)
    assert row["kinds"]["spot"] == row["pixel_auroc"] == auroc
    assert row["auroc"] == np.mean(list(row["kinds"].values()))
    assert row["flagged"] == flagged
    assert row["fit_s"] >= 0 and row["score_ms"] > 0


def test_read_tasks(data, tmp_path):
    from fewshot import read_tasks

    args = Namespace(data=data, sets=None, max_test=None)
    assert [t.name for t in read_tasks(args)] == ["parts", "things/a", "things/b", "things/c"]
    args.sets = "parts"
    assert [t.name for t in read_tasks(args)] == ["parts"]
    with pytest.raises(FileNotFoundError):
        read_tasks(Namespace(data=tmp_path, sets=None, max_test=None))


def test_evaluate():
    from fewshot import evaluate

    detector = evaluate("sklearn.svm.OneClassSVM(nu=1 / seed)", seed=4)
    assert detector.nu == 0.25
    with pytest.raises(NameError):
        evaluate("no_such_module.Detector()")


def test_command_line(data, tmp_path, capsys):
    from fewshot import main

    file = tmp_path / "rows.json"
    detector = "skcoft.COFTDetector(weights=None, max_iter=0, image_size=32, random_state=seed)"
    arguments = ["--data", data, "--sets", "parts", "--shots", "4", "--seeds", "1", "--pixels"]
    arguments += ["--max-test", "3", "--json", file, "--detector", detector]
    main(list(map(str, arguments)))
    (row,) = json.loads(file.read_text())
    assert row["task"] == "parts" and 0 <= row["auroc"] <= 100 and 0 <= row["pixel_auroc"] <= 100
    output = capsys.readouterr().out
    assert f"mean of 1 tasks {row['auroc']:25.1f}" in output
    assert f"flagged {row['flagged']:.1f} %" in output


@pytest.mark.parametrize("name", ["FrozenGaussian", "FrozenNearest", "PatchMemory"])
def test_peers(data, weights, name):
    from fewshot import evaluate, load_tasks

    (parts,) = load_tasks(data / "parts.npz")
    coloured = next(load_tasks(data / "things.npz"))
    detector = evaluate(f"peers.{name}('resnet10t', weights)", weights=weights)
    for task in (parts, coloured):
        shots = task.pool[:2]
        scores = detector.fit(shots).score_samples(np.concatenate([shots, task.normal[:1]]))
        assert scores.shape == (3,) and scores[:2].min() > scores[2]  # shots score highest
    if name == "PatchMemory":
        maps = detector.anomaly_map(coloured.normal[:1])
        assert maps.shape == (1, 8, 8) and maps.min() >= 0


def test_peer_rejects_weights_of_another_network(weights, tmp_path):
    from peers import FrozenGaussian

    save_file({"conv1.weight": torch.zeros(1)}, tmp_path / "resnet10t.safetensors")
    with pytest.raises((RuntimeError, ValueError)):
        FrozenGaussian("resnet10t", tmp_path)
    save_file({"unknown": torch.zeros(1)}, tmp_path / "resnet10t.safetensors")
    with pytest.raises(ValueError):
        FrozenGaussian("resnet10t", tmp_path)


@pytest.mark.parametrize("script", SCRIPTS)
def test_help(script, capsys):
    module = importlib.import_module(script)
    with pytest.raises(SystemExit) as system_exit:
        module.main(["--help"])
    assert system_exit.value.code == 0
    assert module.__doc__.splitlines()[0] in capsys.readouterr().out


def test_backbones(data, weights, capsys):
    from backbones import main

    names = "resnet10t,resnet10t+resnet10t"
    arguments = ["--data", data, "--weights", weights, "--sets", "parts", "--backbones", names]
    arguments += ["--shots", "4", "--seeds", "1", "--max-test", "3", "--iterations", "0"]
    main(list(map(str, arguments)))
    settings, columns, *lines = capsys.readouterr().out.splitlines()
    assert settings == "4 shots, 1 seeds, max_test=3" and columns.split() == ["mean", "parts"]
    assert [line.split(",")[0] for line in lines] == names.split(",")
    pattern = (
        r"resnet10t.*, 0 +([\d.]+) +\1  pixel [\d.]+, flagged [\d.]+ %, fit [\d.]+ s, [\d.]+ ms"
    )
    assert all(re.fullmatch(pattern, line) for line in lines)


def test_backbone_options(tmp_path):
    from backbones import backbone_options

    options = backbone_options("embedded", tmp_path)
    assert options == {"backbone": "embedded", "weights": "pretrained"}
    options = backbone_options("tf_efficientnet_lite2+resnet18", tmp_path)
    assert options["backbone"] == ["tf_efficientnet_lite2", "resnet18"]
    assert options["weights"] == ["pretrained", tmp_path / "resnet18.safetensors"]


SMALL = "{'backbone': 'resnet10t', 'weights': None, 'image_size': 32, 'max_iter': 0}"


def run(name, data, *arguments):
    """Run a script on the data set "parts"."""
    arguments = ["--data", data, "--sets", "parts", "--seeds", "1", *arguments]
    importlib.import_module(name).main(list(map(str, arguments)))


def test_components_alone_and_joined(data, capsys):
    run("parts", data, "--shots", "4", "--detector", SMALL)
    header, row, mean = capsys.readouterr().out.splitlines()
    assert header.split() == ["image", "x1", "patch", "x1", "joined"]
    assert row.startswith("parts ") and row.split()[1:] == mean.split()[1:]
    assert all(0 <= float(value) <= 100 for value in row.split()[1:])


def test_pools(data, capsys, monkeypatch):
    pytest.importorskip("pyod")
    import pools

    rows, clean = pools.draw_pool(np.repeat([True, False], [20, 7]), 10, 0.2, seed=1)
    assert len({*rows[:8], *clean}) == 8 + pools.N_CLEAN and rows[:8].max() < 20
    assert len(rows) == 10 and (rows[8:] >= 20).all()
    monkeypatch.setattr(pools, "SHARES", (0.2, 0.4))
    run("pools", data, "--pool", "10", "--detector", SMALL)
    *_, title, shares, own, held_out, gate, clean, forest, lof, knn, soft, musc = (
        capsys.readouterr().out.splitlines()
    )
    assert title == "1 tasks, 1 seeds from 0, pools of 10" and shares.split() == ["20%", "40%"]
    assert own.startswith("own kernels ") and held_out.startswith("held out ")
    for line in (own, held_out, gate, clean, forest, lof, knn, soft, musc):
        assert all(0 <= float(cell) <= 100 for cell in line.split()[-2:])
    run("pools", data, "--pool", "10", "--detector", SMALL, "--max-iter", "1")
    tuned = capsys.readouterr().out.splitlines()[-2:]
    assert [line.rsplit(maxsplit=2)[0] for line in tuned] == ["own kernels", "held out"]


def test_scores_of_a_pool_are_those_of_the_detector(data):
    """The features are embedded once, for all pools."""
    import pools
    from fewshot import load_tasks

    (task,) = load_tasks(data / "parts.npz")
    parameters = {"backbone": "resnet10t", "weights": None, "image_size": 32, "max_iter": 0}
    embedded = pools.EmbeddedTask(task, parameters)
    rows, _ = pools.draw_pool(embedded.is_normal, 10, 0.2, seed=0)
    joint = embedded.fit(rows)
    detector = COFTDetector(random_state=0, **parameters).fit(embedded.images[rows])
    images = [joint.components[0, "image"], detector._model.joint.components[0, "image"]]
    np.testing.assert_allclose(images[0].held_out_scores, images[1].held_out_scores, rtol=1e-5)
    patches = [joint.components[0, "patch"], detector._model.joint.components[0, "patch"]]
    np.testing.assert_allclose(patches[0].held_out_scores, patches[1].held_out_scores, rtol=1e-5)
    summary = detector._model.summarize(detector._read(embedded.images[rows]))
    expected = patches[1].score(summary[0, "patch"])
    actual = patches[0].summarize(
        Features(None, torch.from_numpy(np.stack(embedded.patches(rows))), None)
    )
    np.testing.assert_allclose(patches[0].score(actual), expected, rtol=1e-5)


def test_a_patch_memory_leaves_the_image_itself_and_noisy_patches_out():
    import pools

    rng = np.random.default_rng(0)
    patches = [rng.normal(0, 0.1, (3, 3, 2)).astype(np.float32) for _ in range(8)]
    patches[2][1, 1] = patches[5][0, 0] = 9  # two anomalies alike, one patch each
    assert set(np.argsort(pools.softpatch_scores(patches, 0))[:2]) == {2, 5}
    assert set(np.argsort(pools.musc_scores(patches))[:2]) == {2, 5}


def test_thresholds(data, capsys):
    from thresholds import SHOTS, add_noisy_duplicates

    assert SHOTS == (4, 8, 16, 32)
    images = np.full((2, 3, 3), 255, dtype=np.uint8)
    doubled = add_noisy_duplicates(images, 0)
    assert len(doubled) == 4 and doubled.dtype == np.uint8
    assert set(doubled[2:].flat) == {254, 255}
    small = SMALL.replace(", 'max_iter': 0", "")
    arguments = ["--iterations", "0,1", "--numbers", "4,6", "--detector", small]
    for option in ([], ["--doubled"]):
        run("thresholds", data, *arguments, *option)
        lines = capsys.readouterr().out.splitlines()[2:]
        labels = [
            f"{n} shots, {i} iterations, {figure}"
            for i in (0, 1)
            for n in (4, 6)
            for figure in ("flagged", "AUROC")
        ]
        assert [" ".join(line.split()[:5]) for line in lines] == labels
        assert all(0 <= float(line.split()[-1]) <= 100 for line in lines)


def test_changes_of_images():
    from shifts import CHANGES, WHITE_BALANCE, change_images

    rng = np.random.default_rng(0)
    images = np.repeat(rng.integers(60, 190, (2, 16, 20, 1)), 3, 3).repeat(3, 1).astype(np.uint8)
    changed = {name: change_images(images, change) for name, change in CHANGES.items()}
    assert all(x.shape == images.shape and x.dtype == np.uint8 for x in changed.values())
    for sigma in (1, 2, 4):
        difference = changed[f"noise, sigma {sigma}"].astype(float) - images
        assert difference.std() == pytest.approx(np.hypot(sigma, 12**-0.5), rel=0.05)
    for sign in (-1, 1):
        ratio = changed[f"exposure {10 * sign:+d} %"].mean() / images.mean()
        assert ratio == pytest.approx(1 + sign / 10, abs=0.002)
    assert_array_equal(changed["shift by 3 pixels"][:, :, 3:], images[:, :, :-3])
    red, green, blue = np.moveaxis(changed[WHITE_BALANCE], 3, 0)
    assert red.mean() > green.mean() > blue.mean()
    assert_array_equal(green, images[..., 1])
    black, white = (np.full((1, 8, 8), value, dtype=np.uint8) for value in (0, 255))
    for name, change in CHANGES.items():
        if name != WHITE_BALANCE and "noise" not in name:  # clipped, not wrapped around
            assert change_images(black, change).max() == 0
            assert change_images(white, change).min() >= 229


def test_shifts(data, capsys):
    from shifts import CHANGES, WHITE_BALANCE

    run("shifts", data, "--shots", "4", "--max-test", "3", "--detector", SMALL)
    _, columns, *lines = capsys.readouterr().out.splitlines()
    assert columns.split() == ["mean", "parts"]
    figures = "normal flagged", "anomalies flagged", "AUROC"
    labels = [f"{name}, {figure}" for name in ["unchanged", *CHANGES] for figure in figures]
    assert [line[: len(label)] for line, label in zip(lines, labels, strict=True)] == labels
    for line in lines:
        value = float(line.split()[-1])
        assert np.isnan(value) if line.startswith(WHITE_BALANCE) else 0 <= value <= 100


def test_streams(tmp_path, capsys):
    import stream

    rng = np.random.default_rng(0)
    image = np.full((40, 40), 20, dtype=np.uint8)
    image[5:10, 18:22] = 220  # a mark above the middle, which turns with the image
    turned = [stream.turn(image, rng) for _ in range(8)]
    marks = [np.argmax(each.max(axis=0)) for each in turned]
    assert len(set(marks)) > 2 and all(each.shape == image.shape for each in turned)
    normal = rng.integers(90, 110, (8, 32, 32), dtype=np.uint8)
    np.savez(tmp_path / "parts.npz", normal=normal, anomaly_spot=normal[:2] // 2)
    run("stream", tmp_path, "--seeds", "1", "--counts", "4", "6", "--refit", "6")
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split()[-1] == "anomalous"
    labels, shots = zip(
        *((line[:42].strip(), line[42:].split()[0]) for line in lines), strict=True
    )
    assert labels == ("parts, 4 images", "parts, 6 images", "parts, a fit on 6 images")
    assert shots == ("4", "6", "6")
    for line in lines:
        *_, megabytes, auroc, normal, anomalous = map(float, line[42:].split())
        assert megabytes > 1 and all(0 <= value <= 100 for value in (auroc, normal, anomalous))


def test_large_photographs(tmp_path, capsys):
    import large

    rng = np.random.default_rng(0)
    normal = rng.integers(90, 110, (8, 256, 256), dtype=np.uint8)
    spots, mask = normal[:2].copy(), np.zeros((2, 256, 256), dtype=np.uint8)
    mask[:, 100:120, 40:60] = 1
    spots[mask > 0] = 255
    photo = large.make_photograph(normal, rng)
    assert photo.shape == (1536, 2048)
    assert (photo[:256, 256:512] == normal).all(axis=(1, 2)).any()
    center = large.insert_defect(photo, spots[0], mask[0], rng)
    assert (photo > 110).sum() == 400
    assert np.hypot(*(large.peak_position(photo) - center)) < 30
    np.savez(tmp_path / "parts.npz", normal=normal, anomaly_spot=spots, mask_spot=mask)
    run("large", tmp_path, "--shots", "4", "--photographs", "2", "--max-pixels", "100000")
    (line,) = capsys.readouterr().out.splitlines()
    assert re.match(r"parts, spot .* fit [\d.]+ s, score [\d.]+ s, peak [\d.]+ GiB$", line)


def test_modalities(capsys, monkeypatch):
    import modalities

    for name, value in {"SIZE": 64, "NORMAL": 4, "PER_KIND": 2}.items():
        monkeypatch.setattr(modalities, name, value)
    colour, depth, kinds = modalities.make_images(2, 0)
    plates = make_plates(8, 8, size=64, random_state=0)
    assert_array_equal(colour, plates.images)
    has_bulge = (depth - plates.depths / 65535).max(axis=(1, 2)) > 0.02
    assert_array_equal(has_bulge, kinds == "bulge")
    assert kinds.tolist()[:8] == ["good"] * 6 + ["bulge"] * 2
    inputs = modalities.make_inputs(colour, depth)
    assert inputs["side by side in one image"].shape == (16, 64, 128, 3)
    modalities.main(
        ["--shots", "2", "--seeds", "1", "--detector", "{'backbone': 'embedded', 'max_iter': 0}"]
    )
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["mean", "colour", "depth", "side", "both"]
    assert lines[0].split()[1:] == [*sorted({*kinds} - {"good"}), "flagged"]
    assert all(0 <= float(cell) <= 100 for line in lines[1:] for cell in line.split()[-7:])


def test_table_shows_ratios_goals_and_an_earlier_run(capsys, monkeypatch):
    import bench_speed

    monkeypatch.setattr(bench_speed, "seconds", lambda function: function())
    table = bench_speed.Table(3, {"fit / bare loop": 1.75})
    table.compare("fit / bare loop", lambda: 3.0, lambda: 2.0)
    table.compare("scikit-learn / our KernelDensity", lambda: 1.0, lambda: 4.0, inverse=True)
    table.compare("another", lambda: 1.0, lambda: 1.0)
    _, *lines = capsys.readouterr().out.splitlines()
    goal = bench_speed.GOALS["fit / bare loop"]
    range_ = ["1.50", "to", "1.50"]
    assert lines[0].split()[4:] == ["1.50", *range_, f"{goal}", "1.75", "3.000", "2.000"]
    assert lines[1].split()[4:] == ["4.00", "4.00", "to", "4.00", "1", "1.000", "4.000"]
    assert lines[2].split() == ["another", "1.00", "1.00", "to", "1.00", "1.000", "1.000"]
    assert table.medians["fit / bare loop"] == 1.5


def test_memory_of_collections(tmp_path, monkeypatch):
    import bench_memory

    images = bench_memory.LazyImages(3)
    assert len(list(images)) == 3
    assert (images[1] != images[2]).any() and (images[1] == images[1]).all()
    assert 0 < bench_memory.peak_memory() < 2**20
    scored = []
    monkeypatch.setattr(bench_memory.COFTDetector, "score_samples", lambda _, X: scored.append(X))
    monkeypatch.setattr(bench_memory, "peak_memory", iter([100, 130, 130, 131]).__next__)
    np.memmap(tmp_path / "images", mode="w+", shape=(9, 32, 32, 3), dtype=np.uint8).flush()
    assert bench_memory.score_lazily(10) == 30
    assert bench_memory.score_memory_map(tmp_path / "images", 9) == 1
    assert [len(images) for images in scored] == [10, 9]
    assert isinstance(scored[1], np.memmap)


def test_neighbours(data, weights):
    from fewshot import load_tasks
    from neighbours import describe, resize_task, run

    (parts,) = load_tasks(data / "parts.npz", 2)
    small = resize_task(parts, 8)
    assert small.pool.shape == (10, 8, 8, 1) and small.anomalies["dent"].shape == (2, 8, 8, 1)
    assert (small.masks["spot"] == (parts.masks["spot"] > 0)[:, ::2, ::2]).all()
    assert (small.anomalies["spot"][..., 0][small.masks["spot"]] > 200).mean() > 0.5
    file = weights / "resnet10t.safetensors"
    network = {"backbone": "resnet10t", "weights": file, "image_size": 32}
    threads = torch.get_num_threads()
    rows = [
        run(name, network, parts, 4, 0, 1) for name in ("LocalOutlierFactor", "skcoft, frozen")
    ]
    torch.set_num_threads(threads)
    assert ["pixel_auroc" in row for row in rows] == [False, True]
    assert re.fullmatch(r"pixel [\d.]+, fit [\d.]+ s, \d+ ms, \d+ MiB", describe(rows))


def test_wrong_shots(data, capsys):
    from dirty import is_different, main, split_anomalies
    from fewshot import load_tasks

    (task,) = load_tasks(data / "parts.npz")
    bad, anomalies = split_anomalies(task, seed=0, n_bad=2, n_test=2)
    tested = np.concatenate(list(anomalies.values()))
    assert len(bad) == 2 and len(tested) == 2 + 1  # of four spots and three dents
    assert not any((tested == image).all(axis=(1, 2)).any() for image in bad)
    assert is_different(np.arange(8.0), -20) and not is_different(np.arange(8.0), 0)
    options = "{'weights': None, 'max_iter': 0, 'image_size': 32}"
    arguments = ["--data", data, "--sets", "parts", "--numbers", "4", "--seeds", "1"]
    main(list(map(str, [*arguments, "--max-test", "4", "--detector", options])))
    settings, columns, *lines = capsys.readouterr().out.splitlines()
    assert settings == "4 shots, 1 seeds, max_test=4" and columns.split() == ["mean", "parts"]
    labels = [line[:42].strip() for line in lines]
    assert labels[:4] == [
        f"4 shots, 0 wrong, {name}" for name in ("auroc", "detected", "flagged", "warned")
    ]
    assert "4 shots, 2 wrong, differ" in labels
    assert all(0 <= float(line[42:].split()[0]) <= 100 for line in lines)


def test_mixtures_of_products(data, capsys):
    from dirty import main

    options = "{'weights': None, 'max_iter': 0, 'image_size': 32}"
    mixture = ["--shots", "4", "--mixtures", "parts+things/a", "--sets", "parts,things"]
    arguments = ["--data", data, *mixture, "--seeds", "1", "--max-test", "4"]
    main(list(map(str, [*arguments, "--detector", options])))
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split()[0] == "product" and len(lines) == 2
    assert lines[0].startswith("parts in parts+things/a") and len(lines[1].split()) == 7
