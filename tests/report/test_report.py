"""The report: its content, that it loads nothing from elsewhere, and its look in a browser."""

import re
import shutil
import subprocess
from base64 import b64decode
from html import escape
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from skcoft import COFTDetector
from skcoft.report import score_images, write_report
from skcoft.report._images import REPORT_IMAGE_SIDE

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


class Page(HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.words = [], []
        self.source = path.read_text()
        self.feed(self.source)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    handle_startendtag = handle_starttag

    def handle_data(self, data):
        self.words.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture
def write(inspector, plates, tmp_path):
    """Return a function that writes a report on the test plates and parses the page."""

    def write(X=plates.images[6:], detector=inspector, **options):
        write_report(detector, X, tmp_path / "report.html", **options)
        return Page(tmp_path / "report.html")

    return write


def test_the_page_loads_nothing_from_elsewhere(write, plates):
    page = write(shots=plates.images[:6], y=plates.labels[6:])
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "iframe", "object", "a")]
    assert {attrs["src"].partition(",")[0] for attrs in page.all("img")} == {
        "data:image/jpeg;base64"
    }
    policy = [a["content"] for a in page.all("meta") if "http-equiv" in a]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    assert not re.search(r"https?:|@import|url\((?!#hatch)", page.source)
    assert len(page.source) < 300_000


def test_summary_counts_decisions_and_compares_them_with_labels(write, inspector, plates):
    X, y = plates.images[6:], plates.labels[6:]
    page, decisions = write(y=y, title="Line 3"), inspector.predict(X)
    flagged, detected = (decisions == -1).sum(), (decisions[y == -1] == -1).sum()
    false_alarms = (decisions[y == 1] == -1).sum()
    assert 0 < flagged < 12 and detected < 6
    assert f"{flagged} of 12 images are anomalous." in page.text
    assert f"{detected} of 6 anomalies were detected" in page.text
    assert f"{false_alarms} of 6 normal images were flagged" in page.text
    assert f"{inspector.score(X, y):.3f} area under the ROC curve" in page.text
    assert page.text.startswith("Line 3")  # the title of the window
    assert page.source.count('class="mismatch"') == (decisions != y).sum() > 0


def test_without_labels_the_report_does_not_mention_them(write):
    page = write()
    assert "label" not in page.text.lower() and "ROC" not in page.text
    assert 'class="mismatch"' not in page.source


def test_images_are_sorted_by_score_lowest_first(write, inspector, plates):
    names = [f"part {i}" for i in range(12)]
    page = write(names=names, worst=3)
    scores = inspector.score_samples(plates.images[6:])
    order = np.argsort(scores)
    assert re.findall(r"<h3>(.*?)</h3>", page.source) == [names[i] for i in order[:3]]
    assert re.findall(r'<td class="name">(.*?)</td>', page.source) == [names[i] for i in order]
    assert len(page.all("img")) == 3 * 2  # each with its map
    cells = re.findall(r'</td><td class="number">(.*?)</td><td class="number">', page.source)
    values = [float(s.replace(",", "").replace("\N{MINUS SIGN}", "-")) for s in cells]
    assert_allclose(values, np.sort(scores), atol=0.5)


def test_embedded_images_are_the_image_its_map_and_its_nearest_shot(write, inspector, plates):
    page = write(plates.images[6:8], shots=plates.images[:6], worst=1)
    image, anomaly_map, shot = (
        np.asarray(decode(attrs["src"])).astype(float) for attrs in page.all("img")
    )
    lowest = 6 + int(np.argmin(inspector.score_samples(plates.images[6:8])))
    nearest = inspector.kneighbors(plates.images[[lowest]], return_distance=False)[0, 0]
    assert np.abs(image - plates.images[lowest]).mean() < 6  # JPEG
    assert np.abs(shot - plates.images[nearest]).mean() < 6
    assert image.shape == anomaly_map.shape == (64, 64, 3)


def decode(data_uri):
    return Image.open(BytesIO(b64decode(data_uri.partition(",")[2])))


def test_large_images_are_downscaled_with_their_aspect_ratio(inspector, tmp_path, write):
    Image.new("L", (1000, 250), 90).save(tmp_path / "wide.png")
    page = write([tmp_path / "wide.png"], worst=1)
    for attrs in page.all("img"):
        assert decode(attrs["src"]).size == (REPORT_IMAGE_SIDE, REPORT_IMAGE_SIDE // 4)
    assert "wide.png" in page.text


def test_names_and_errors_are_escaped(write, plates, tmp_path):
    evil = '<script>alert("1")</script>&.png'
    page = write([plates.images[6], tmp_path / "gone.png"], names=[evil, evil], title=evil)
    assert not page.all("script")
    assert page.text.count(evil) >= 5 and escape(evil) in page.source


def test_unreadable_images_are_listed(write, plates, tmp_path):
    page = write([*plates.images[6:8], str(tmp_path / "gone.png")])
    assert "1 unreadable" in page.text and "✕ unreadable" in page.text
    assert f"gone.png: Image file {str(tmp_path / 'gone.png')!r} does not exist." in page.text
    assert "of 2 images" in page.text


def test_settings_and_versions_are_listed(write, plates):
    text = write().text
    for setting in ("backbone embedded", "(shots) 6", "iterations of fine-tuning 0", "max_iter=0"):
        assert setting in text
    for package in ("skcoft", "torch", "timm", "Python"):
        assert re.search(rf"{package} \d+\.\d+", text)


def test_detector_without_maps(write, plates):
    detector = COFTDetector("embedded", max_iter=0, local=False).fit(plates.images[:6])
    page = write(plates.images[6:8], detector)
    assert len(page.all("img")) == 2 and "Scale of the maps" not in page.source


def test_no_images_are_shown_with_worst_0(write):
    page = write(worst=0)
    assert not page.all("img") and "lowest scores</h2>" not in page.source


@pytest.mark.parametrize(
    "options, match",
    [
        (dict(title=None), "title"),
        (dict(worst=-1), "worst"),
        (dict(names=["a"]), "names"),
        (dict(y=[0, 1] * 6), "^y "),
        (dict(shots="five"), "shots"),
        (dict(shots="mirrored"), r"shots\[0\]"),
    ],
)
def test_invalid_arguments_leave_an_existing_file_unchanged(
    inspector, plates, tmp_path, options, match
):
    path = tmp_path / "report.html"
    path.write_text("before")
    shots = {"five": plates.images[:5], "mirrored": plates.images[:6, ::-1]}
    if "shots" in options:
        options = {"shots": shots[options["shots"]]}
    with pytest.raises(ValueError, match=match):
        write_report(inspector, plates.images[6:], path, **options)
    assert path.read_text() == "before"


def test_results_are_returned(inspector, plates, tmp_path):
    results = write_report(inspector, plates.images[6:], tmp_path / "report.html")
    assert_array_equal(results.scores, score_images(inspector, plates.images[6:]).scores)


def browse(tmp_path, page, *options):
    """Open a page in a headless browser; return its output."""
    file = tmp_path / "page.html"
    file.write_text(page)
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    process = subprocess.run(
        [*command, profile, *options, file.as_uri()], capture_output=True, text=True, timeout=120
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


needs_browser = pytest.mark.skipif(BROWSER is None, reason="needs a browser")


@needs_browser
@pytest.mark.parametrize("width", [360, 1200])
def test_page_fits_the_width_of_a_browser(write, plates, tmp_path, width):
    """All images are decoded, and nothing is wider than the screen of a phone."""
    names = ["a/long_name_without_any_space" * 5, *map(str, range(11))]
    page = write(shots=plates.images[:6], y=plates.labels[6:], names=names)
    measure = """<script>onload = () => {
        const report = document.querySelector("iframe").contentDocument
        const root = report.documentElement
        const decoded = [...report.images].filter(i => i.naturalWidth)
        document.body.title = [root.scrollWidth - root.clientWidth, decoded.length,
            report.querySelector("svg").getBoundingClientRect().width > 250]
    }</script>"""
    frame = f'<iframe style="width:{width}px" srcdoc="{escape(page.source)}"></iframe>'
    dom = browse(tmp_path, f"<body>{frame}{measure}</body>", "--dump-dom")
    assert re.search(r'title="(.*?)"', dom).group(1) == "0,36,true"


@needs_browser
def test_page_is_dark_text_and_colours_on_white_in_a_browser(write, tmp_path):
    page, file = write(), tmp_path / "page.png"
    browse(tmp_path, page.source, f"--screenshot={file}", "--window-size=1000,1400")
    with Image.open(file) as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3).astype(int)
    assert np.all(pixels[0] == 255) and 0.4 < np.all(pixels > 240, axis=1).mean() < 0.95
    for colour in ((0, 0x72, 0xB2), (0xD5, 0x5E, 0), (0x1B, 0x1F, 0x24)):
        assert np.all(pixels == colour, axis=1).sum() > 100


def test_invalid_output_paths_and_tabular_data_are_rejected(inspector, plates, tmp_path):
    """The errors come before the images are scored, and nothing is written."""
    with pytest.raises(IsADirectoryError):
        write_report(inspector, plates.images, tmp_path)
    with pytest.raises(FileNotFoundError):
        write_report(inspector, plates.images, tmp_path / "none" / "report.html")
    features = np.random.default_rng(0).normal(size=(8, 3))
    fitted = COFTDetector(max_iter=0, random_state=0).fit(features)
    with pytest.raises(ValueError):
        write_report(fitted, features, tmp_path / "report.html")
    assert not list(tmp_path.iterdir())


def test_a_report_decodes_few_images_more_than_scoring(inspector, plates, write, tmp_path):
    """Each image that is shown is decoded for its picture and, once, for its map and shot."""
    decoded, paths = [], []
    for i, plate in enumerate(plates.images):
        paths.append(tmp_path / f"{i:02d}.png")
        Image.fromarray(plate).save(paths[-1])
    load_end = PngImageFile.load_end

    def count(image):
        decoded.append(image.filename)
        load_end(image)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PngImageFile, "load_end", count)
        score_images(inspector, paths[6:])
        per_image = len(decoded) / 12
        decoded.clear()
        write(paths[6:], shots=paths[:6], y=plates.labels[6:], worst=4)
    assert len(decoded) / per_image <= 12 + 2 * 4 + 6
