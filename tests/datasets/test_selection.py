"""Which images of a folder the commands use, and what they say of the others."""

import pytest
from PIL import Image

from skcoft import COFTDetector

FROZEN = "--backbone", "embedded", "--iterations", "0"


@pytest.fixture
def photos(plates, tmp_path):
    """Write photographs: normal ones in the order of their names, anomalies if asked for."""

    def photos(*names, anomalies=()):
        for offset, group in ((0, names), (12, anomalies)):
            for i, name in enumerate(group):
                (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(plates.images[offset + i]).save(tmp_path / name)

    return photos


def test_photographs_sorted_by_day_are_all_used(run, photos, tmp_path):
    days = "2024-05-01", "Tuesday", "day 3"
    photos(*[f"set/{day}/{i}.png" for day in days for i in range(3)])
    (tmp_path / "set/Tuesday/notes.txt").touch()
    (tmp_path / "set/.DS_Store").touch()
    code, output, errors = run("fit", "set", "-o", "m", *FROZEN)
    assert code == 0 and output.startswith("m: fitted on 9 images")
    note = (
        "skcoft: 'set': 9 images in 3 folders. Not used: .txt (1), hidden or system files (1).\n"
    )
    assert errors == note
    assert len(COFTDetector.load("m").embeddings_) == 9
    for command in "score", "report":
        code, output, errors = run(command, "m", "set", "-o", f"{command}.out")
        assert (code, errors) == (0, note)
        assert output.startswith(f"{command}.out: 9 images") and "ROC" not in output


def test_a_plain_folder_needs_no_note(run, photos):
    photos(*[f"set/{i}.png" for i in range(6)])
    assert run("fit", "set", "-o", "m", *FROZEN)[2] == ""
    assert run("score", "m", "set", "-o", "s.csv")[2] == ""


def test_normal_may_name_the_training_folder(run, photos, inspector, tmp_path):
    inspector.save(tmp_path / "m")
    photos("set/Train/good/1.png", "set/Test/good/2.png", anomalies=["set/Test/bad/3.png"])
    for options in ([], ["--normal", "Train"], ["--normal", "GOOD"]):
        code, output, errors = run("score", "m", "set", "-o", "s.csv", "--overwrite", *options)
        assert code == 0 and not errors
        assert "2 images" in output and "area under the ROC curve" in output


def test_without_the_label_of_every_image_there_is_no_accuracy(run, photos, inspector, tmp_path):
    inspector.save(tmp_path / "m")
    photos("set/good/1.png", "set/new/2.png", "set/3.png", anomalies=["set/bent/4.png"])
    for command in "score", "report":
        code, output, errors = run(command, "m", "set", "-o", f"{command}.out")
        assert code == 0 and "ROC" not in output
        assert "of 2 images do not say whether they are normal, so no accuracy is given" in errors
    assert "ROC" not in (tmp_path / "report.out").read_text()


def test_images_without_a_label_are_not_fitted_on_beside_normal_ones(run, photos):
    photos(*[f"set/good/{i}.png" for i in range(6)], "set/new/7.png", "set/8.png")
    code, output, errors = run("fit", "set", "-o", "m", *FROZEN)
    assert code == 0 and "fitted on 6 images" in output
    assert errors == "skcoft: 'set': Not used: images without a label (2).\n"


def test_known_anomalies_are_not_fitted_on(run, photos):
    photos(*[f"set/{i}.png" for i in range(6)], anomalies=["set/defects/1.png"])
    code, output, errors = run("fit", "set", "-o", "m", *FROZEN)
    assert code == 0 and "fitted on 6 images" in output
    assert errors == "skcoft: 'set': Not used: images labelled anomalous (1).\n"
    code, _, errors = run("fit", "set/defects/..", "-o", "n", *FROZEN, "--normal", "nothing")
    assert code == 2 and "normal='nothing'" in errors


def test_several_data_sets_are_scored_without_masks_and_accuracy(run, photos, inspector, tmp_path):
    inspector.save(tmp_path / "m")
    photos("set/a/train/good/1.png", "set/a/test/good/2.png", "set/b/train/good/3.png")
    photos(anomalies=["set/a/test/bad/4.png", "set/a/ground_truth/bad/4_mask.png"])
    code, output, errors = run("score", "m", "set", "-o", "s.csv")
    assert code == 0 and "2 images" in output and "ROC" not in output
    assert errors == "skcoft: 'set': 2 images in 2 folders. Not used: masks (1).\n"
    code, _, errors = run("fit", "set", "-o", "n")
    assert code == 2 and "several data sets" in errors and "'a', 'b'" in errors
