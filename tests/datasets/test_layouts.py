"""The layouts of published data sets: splits, labels and masks of every file."""

import csv

import numpy as np
import pytest
from PIL import Image

from skcoft._cli import main
from skcoft.datasets import load_folder

# One line per file: split, label (+ normal, - anomalous, ? unknown), path, and its mask, if any.
# Files that are no images have a dash as split.
LAYOUTS = {
    "MVTec AD": """
        train + train/good/000.png
        train + train/good/001.png
        test + test/good/000.png
        test - test/broken_large/000.png = ground_truth/broken_large/000_mask.png
        test - test/color/000.png = ground_truth/color/000_mask.png
    """,
    "MVTec AD 2, public": """
        train + train/good/000_regular.png
        validation + validation/good/000_regular.png
        test + test_public/good/000_regular.png
        test - test_public/bad/000_regular.png = \
            test_public/ground_truth/bad/000_regular_mask.png
        test - test_public/bad/001_shift_1.png = \
            test_public/ground_truth/bad/001_shift_1_mask.png
    """,
    "MVTec AD 2": """
        train + train/good/000_regular.png
        validation + validation/good/000_regular.png
        test + test_public/good/000_regular.png
        test - test_public/bad/000_regular.png = \
            test_public/ground_truth/bad/000_regular_mask.png
        test ? test_private/000_regular.png
        test ? test_private_mixed/000_mixed.png
    """,
    "MVTec LOCO": """
        train + train/good/000.png
        validation + validation/good/000.png
        test + test/good/000.png
        test - test/logical_anomalies/000.png = ground_truth/logical_anomalies/000/000.png
        test - test/structural_anomalies/000.png = ground_truth/structural_anomalies/000/000.png
        - x ground_truth/logical_anomalies/000/001.png
        - x defects_config.json
    """,
    "MVTec 3D-AD": """
        train + train/good/rgb/000.png
        validation + validation/good/rgb/000.png
        test + test/good/rgb/000.png = test/good/gt/000.png
        test - test/crack/rgb/000.png = test/crack/gt/000.png
        - x train/good/xyz/000.tiff
        - x validation/good/xyz/000.tiff
        - x test/good/xyz/000.tiff
        - x test/crack/xyz/000.tiff
    """,
    "VisA": """
        none + Data/Images/Normal/0000.JPG
        none + Data/Images/Normal/0001.JPG
        none - Data/Images/Anomaly/000.JPG = Data/Masks/Anomaly/000.png
        - x image_anno.csv
    """,
    "BTAD": """
        train + train/ok/0000.bmp
        test + test/ok/0001.bmp
        test - test/ko/0000.bmp = ground_truth/ko/0000.png
    """,
    "MPDD": """
        train + train/good/000.png
        test + test/good/000.png
        test - test/parts_mismatch/000.png = ground_truth/parts_mismatch/000_mask.png
        test - test/hole/000.png = ground_truth/hole/000_mask.png
    """,
    "Real-IAD": """
        none + OK/S0001/toy_0001_OK_C1_1.jpg
        none + OK/S0001/toy_0001_OK_C2_1.jpg
        none - NG/AK/S0002/toy_0002_NG_AK_C1_1.jpg = NG/AK/S0002/toy_0002_NG_AK_C1_1.png
        none - NG/HS/S0001/toy_0001_NG_HS_C1_1.jpg = NG/HS/S0001/toy_0001_NG_HS_C1_1.png
    """,
    "KolektorSDD2": """
        train ? train/10000.png = train/10000_GT.png
        train ? train/10001.png = train/10001_GT.png
        test ? test/20000.png = test/20000_GT.png
    """,
    "DAGM": """
        train ? Train/0576.PNG = Train/Label/0576_label.PNG
        train ? Train/0577.PNG
        test ? Test/0001.PNG
        test ? Test/0002.PNG = Test/Label/0002_label.PNG
        - x Train/Label/Labels.txt
    """,
    "castings": """
        train + train/ok_front/cast_ok_0_1.jpeg
        train - train/def_front/cast_def_0_1.jpeg
        test + test/ok_front/cast_ok_0_2.jpeg
        test - test/def_front/cast_def_0_2.jpeg
    """,
    "Severstal": """
        train ? train_images/0a1b.jpg
        train ? train_images/0a1c.jpg
        test ? test_images/0a1d.jpg
        - x train.csv
    """,
    "GoodsAD": """
        train + train/good/000000.jpg
        test + test/good/000001.jpg
        test - test/cap_half_open/000002.jpg = ground_truth/cap_half_open/000002.png
    """,
    "DTD-Synthetic": """
        train + train/good/000.png
        test + test/good/000.png
        test - test/bad/000.png = ground_truth/bad/000_mask.png
    """,
}
LABELS = {"+": 1, "-": -1, "?": 0}
layouts = pytest.mark.parametrize("layout", LAYOUTS)


def lines_of(layout):
    """Split, label, path and mask of every file."""
    for line in LAYOUTS[layout].replace("\\\n", " ").strip().splitlines():
        split, label, path, *mask = line.split()
        yield "" if split == "none" else split, label, path, mask[-1] if mask else None


@pytest.fixture
def folder(tmp_path):
    """Write empty files in a new folder."""

    def write(name, *files):
        for file in files:
            path = tmp_path / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return tmp_path / name

    return write


@pytest.fixture
def build(tmp_path, plates):
    """Write a layout with small photographs; names may be changed."""

    def build(layout, rename=str):
        root = tmp_path / "set"
        for i, (_, label, path, mask) in enumerate(lines_of(layout)):
            file = root / rename(path)
            file.parent.mkdir(parents=True, exist_ok=True)
            if file.suffix.lower() in (".csv", ".json", ".txt"):
                file.write_text("text")
            else:
                start = 12 if label == "-" else 6
                Image.fromarray(plates.images[start + i % 6]).save(file)
            if mask is not None:
                (root / rename(mask)).parent.mkdir(parents=True, exist_ok=True)
                values = np.zeros((64, 64), dtype=np.uint8)
                values[20:30, 20:40] = 255
                Image.fromarray(values).save(root / rename(mask))
        return root

    return build


def upper(path):
    return path.upper()


@layouts
@pytest.mark.parametrize("rename", [str, upper])
def test_every_file_has_its_split_label_and_mask(layout, rename, build):
    root = build(layout, rename)
    data = load_folder(root)
    labels = np.zeros(len(data.paths), int) if data.labels is None else data.labels
    masks = [mask and str(mask) for mask in data.masks]
    listed = sorted(zip(data.paths, data.split, labels.tolist(), masks, strict=True))
    expected = sorted(
        (
            str(root / rename(path)),
            split,
            LABELS[label],
            None if mask is None else str(root / rename(mask)),
        )
        for split, label, path, mask in lines_of(layout)
        if split != "-"
    )
    assert listed == expected
    n_files = sum(path.is_file() for path in root.rglob("*"))
    assert sum(data.skipped.values()) == n_files - len(data.paths)
    # without labels, masks are no images either
    assert load_folder(root, normal=None).paths.tolist() == data.paths.tolist()


@pytest.fixture(scope="module")
def model(inspector, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "plates.skcoft"
    inspector.save(path)
    return str(path)


@layouts
def test_commands_use_the_images_of_their_split(layout, build, model, tmp_path, capsys):
    """score takes the test images. An accuracy needs the label of each, of both kinds."""
    root = build(layout)
    output = tmp_path / "scores.csv"
    assert main(["score", model, str(root), "-o", str(output)]) == 0
    lines = [line for line in lines_of(layout) if line[0] != "-"]
    splits = {split for split, *_ in lines}
    test = [line for line in lines if line[0] == "test" or "test" not in splits]
    with open(output, newline="") as file:
        assert sorted(row["path"] for row in csv.DictReader(file)) == sorted(
            path for _, _, path, _ in test
        )
    summary = capsys.readouterr().out
    assert ("area under the ROC curve" in summary) == (
        {label for _, label, *_ in test} == set("+-")
    )
    page = tmp_path / "report.html"
    assert main(["report", model, str(root), "-o", str(page)]) == 0
    has_accuracy = "area under the ROC curve" in page.read_text()
    assert has_accuracy == ("area under the ROC curve" in summary)


@layouts
def test_fit_uses_normal_training_images_only(layout, build, monkeypatch, tmp_path):
    fitted = []
    monkeypatch.setattr(
        "skcoft._cli.commands.COFTDetector.fit", lambda self, X: fitted.append(list(X)) or 1 / 0
    )
    root = build(layout)
    with pytest.raises(ZeroDivisionError):
        main(["fit", str(root), "-o", str(tmp_path / "m"), "--backbone", "embedded"])
    lines = [line for line in lines_of(layout) if line[0] != "-"]
    train = [line for line in lines if line[0] == "train" or "train" not in {s for s, *_ in lines}]
    wanted = "+" if any(label == "+" for _, label, *_ in train) else "?"
    assert fitted == [sorted(str(root / p) for _, label, p, _ in train if label == wanted)]


def test_validation_images_calibrate(build, tmp_path, monkeypatch):
    passed, detector = [], "skcoft._cli.commands.COFTDetector"
    monkeypatch.setattr(f"{detector}.set_threshold", lambda self, X, **_: passed.append(list(X)))
    monkeypatch.setattr(f"{detector}.fit", lambda self, X: self)
    monkeypatch.setattr(f"{detector}.save", lambda self, path: 1 / 0)
    root = build("MVTec LOCO")
    with pytest.raises(ZeroDivisionError):
        main(["fit", str(root), "-o", str(tmp_path / "m"), "--calibrate", str(root)])
    assert passed == [[str(root / "validation/good/000.png")]]


def test_several_data_sets_are_not_mixed(folder):
    for files, names in (
        (["bottle/train/good/1.png", "cable/test/good/1.png"], "'bottle', 'cable'"),
        (["candle/Data/Images/Normal/1.JPG", "pcb/Data/Images/Normal/1.JPG"], "'candle/Data'"),
        (["train/good/1.png", "more/train/good/2.png"], "'more'"),
    ):
        root = folder(files[0].partition("/")[0] + "_sets", *files)
        with pytest.raises(ValueError, match="several data sets.*" + names):
            load_folder(root)
        assert len(load_folder(root, normal=None).paths) == 2


def test_one_data_set_may_lie_deeper(folder):
    root = folder("set", "bottle/train/good/1.png", "bottle/test/bent/2.png", "readme.md")
    data = load_folder(root)
    assert (data.labels.tolist(), data.split.tolist()) == ([-1, 1], ["test", "train"])
