"""The report: what it says, that it needs nothing else, and how a browser draws it."""

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

from skcoft import COFTDetector
from skcoft.report import score_images, write_report
from skcoft.report._svg import SIDE, histogram, number, overlay

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
    """Write a report on the plates that are no shots; return the page."""

    def write(X=plates.images[6:], detector=inspector, **options):
        write_report(detector, X, tmp_path / "report.html", **options)
        return Page(tmp_path / "report.html")

    return write


def test_it_needs_nothing_else(write, plates):
    page = write(shots=plates.images[:6], y=plates.labels[6:])
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "iframe", "object", "a")]
    assert {attrs["src"].partition(",")[0] for attrs in page.all("img")} == {
        "data:image/jpeg;base64"
    }
    policy = [a["content"] for a in page.all("meta") if "http-equiv" in a]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    assert not re.search(r"https?:|@import|url\((?!#hatch)", page.source)
    assert len(page.source) < 300_000


def test_the_headline_counts(write, inspector, plates):
    X, y = plates.images[6:], plates.labels[6:]
    page, labels = write(y=y, title="Line 3"), inspector.predict(X)
    flagged, caught = (labels == -1).sum(), (labels[y == -1] == -1).sum()
    alarms = (labels[y == 1] == -1).sum()
    assert 0 < flagged < 12 and caught < 6
    assert (
        f"{flagged} of 12 images are anomalous. Of 6 known anomalies {caught} were found, and "
        f"{alarms} of 6 normal images flagged."
    ) in page.text
    assert f"{inspector.score(X, y):.3f} area under the ROC curve" in page.text
    assert page.text.startswith("Line 3")  # the title of the window
    assert page.source.count('class="wrong"') == (labels != y).sum() > 0


def test_without_labels_nothing_is_said_of_them(write):
    page = write()
    assert "known" not in page.text.lower() and "ROC" not in page.text
    assert 'class="wrong"' not in page.source


def test_the_lowest_scores_come_first(write, inspector, plates):
    names = [f"part {i}" for i in range(12)]
    page = write(names=names, worst=3)
    order = np.argsort(inspector.score_samples(plates.images[6:]))
    assert re.findall(r"<h3>(.*?)</h3>", page.source) == [names[i] for i in order[:3]]
    assert re.findall(r'<td class="name">(.*?)</td>', page.source) == [names[i] for i in order]
    assert len(page.all("img")) == 3 * 2  # each with its map
    scores = re.findall(r'</td><td class="number">(.*?)</td><td class="number">', page.source)
    found = [float(s.replace(",", "").replace("\N{MINUS SIGN}", "-")) for s in scores]
    assert_allclose(found, np.sort(inspector.score_samples(plates.images[6:])), atol=0.5)


def test_pictures_are_the_images(write, inspector, plates):
    page = write(plates.images[6:8], shots=plates.images[:6], worst=1)
    image, drawn, shot = (
        np.asarray(Image.open(BytesIO(b64decode(attrs["src"].partition(",")[2])))).astype(float)
        for attrs in page.all("img")
    )
    lowest = 6 + int(np.argmin(inspector.score_samples(plates.images[6:8])))
    nearest = inspector.kneighbors(plates.images[[lowest]], return_distance=False)[0, 0]
    assert np.abs(image - plates.images[lowest]).mean() < 6  # JPEG
    assert np.abs(shot - plates.images[nearest]).mean() < 6
    assert image.shape == drawn.shape == (64, 64, 3)


def test_large_images_are_reduced_in_their_shape(inspector, tmp_path, write):
    Image.new("L", (1000, 250), 90).save(tmp_path / "wide.png")
    page = write([tmp_path / "wide.png"], worst=1)
    for attrs in page.all("img"):
        picture = Image.open(BytesIO(b64decode(attrs["src"].partition(",")[2])))
        assert picture.size == (SIDE, SIDE // 4)
    assert "wide.png" in page.text


def test_names_and_errors_are_text(write, plates, tmp_path):
    evil = '<script>alert("1")</script>&.png'
    page = write([plates.images[6], tmp_path / "gone.png"], names=[evil, evil], title=evil)
    assert not page.all("script")
    assert page.text.count(evil) >= 5 and escape(evil) in page.source


def test_what_could_not_be_read_is_named(write, plates, tmp_path):
    page = write([*plates.images[6:8], str(tmp_path / "gone.png")])
    assert "1 could not be read" in page.text and "✕ not read" in page.text
    assert f"gone.png: Image file {str(tmp_path / 'gone.png')!r} does not exist." in page.text
    assert "of 2 images" in page.text


def test_settings_tell_what_was_used(write, plates):
    text = write().text
    for said in ("backbone embedded", "shots 6", "iterations of fine-tuning 0", "max_iter=0"):
        assert said in text
    for package in ("skcoft", "torch", "timm", "Python"):
        assert re.search(rf"{package} \d+\.\d+", text)


def test_a_detector_without_maps_has_a_report_too(write, plates):
    detector = COFTDetector("embedded", max_iter=0, local=False).fit(plates.images[:6])
    page = write(plates.images[6:8], detector)
    assert len(page.all("img")) == 2 and "Scale of the maps" not in page.source


def test_nothing_is_shown_where_none_is_wanted(write):
    page = write(worst=0)
    assert not page.all("img") and "least normal" not in page.text


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(title=None), "title must be text; got None"),
        (dict(worst=-1), "worst must be an integer >= 0; got -1"),
        (dict(names=["a"]), "names must have one name for each image: 12; got 1"),
        (dict(y=[0, 1] * 6), "y must hold"),
        (dict(shots="few"), "shots must be the 6 images of fit .*; got 5 images"),
        (dict(shots="turned"), r"in their order; 6 of 6 are other ones .*, shots\[0\] first"),
    ],
)
def test_bad_input_leaves_the_file_as_it_was(inspector, plates, tmp_path, options, message):
    path = tmp_path / "report.html"
    path.write_text("before")
    shots = {"few": plates.images[:5], "turned": plates.images[:6, ::-1]}
    if "shots" in options:
        options = {"shots": shots[options["shots"]]}
    with pytest.raises(ValueError, match=message):
        write_report(inspector, plates.images[6:], path, **options)
    assert path.read_text() == "before"


def test_it_returns_what_was_found(inspector, plates, tmp_path):
    found = write_report(inspector, plates.images[6:], tmp_path / "report.html")
    assert_array_equal(found.scores, score_images(inspector, plates.images[6:]).scores)


def test_the_histogram_counts_every_image():
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
    for start, stop, _, fill in bars:  # no bar lies on both sides
        assert stop <= threshold if fill == "url(#hatch)" else start >= threshold
    assert svg.count("<path") == 2
    assert "8 images, 4 normal and 4 odd; 4 are below the threshold, 0.0" in svg
    assert "the first bar holds all below it" in svg


def test_one_image_on_the_threshold_has_a_histogram():
    svg = histogram(np.array([2.0]), np.array([False]), 2.0, np.array([2.0]), ("a", "b"))
    assert "nan" not in svg and svg.count('fill="#0072b2"') == 1


def test_numbers_have_as_many_digits_as_tell():
    minus = "\N{MINUS SIGN}"
    shown = number(-1234.567, 5000), number(-12.3456, 30), number(0.12346, 0.01), number(3, 0)
    assert shown == (f"{minus}1,235", f"{minus}12.3", "0.1235", "3.00")


def test_an_overlay_is_gray_where_nothing_is():
    photo = np.full((8, 8, 3), [0.2, 0.4, 0.6])
    drawn = np.zeros((16, 16))
    drawn[:, 8:] = 9
    seen = overlay(photo, drawn)
    assert_allclose(seen[:, :3], 0.8 * 0.4, atol=1e-6)
    hot = np.array([252, 255, 164]) / 255
    assert_allclose(seen[:, 5:], np.broadcast_to(0.7 * hot + 0.3 * 0.32, (8, 3, 3)), atol=1e-6)


def browse(tmp_path, page, *options):
    """Open a page in a browser without a window; return what it prints."""
    file = tmp_path / "page.html"
    file.write_text(page)
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    done = subprocess.run(
        [*command, profile, *options, file.as_uri()], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


needs_browser = pytest.mark.skipif(BROWSER is None, reason="there is no browser here")


@needs_browser
@pytest.mark.parametrize("width", [360, 1200])
def test_a_browser_shows_all_of_it(write, plates, tmp_path, width):
    """Every picture is drawn, and nothing is wider than a telephone's screen."""
    names = ["a/long_name_without_any_space" * 5, *map(str, range(11))]
    page = write(shots=plates.images[:6], y=plates.labels[6:], names=names)
    measure = """<script>onload = () => {
        const report = document.querySelector("iframe").contentDocument
        const root = report.documentElement, drawn = [...report.images].filter(i => i.naturalWidth)
        document.body.title = [root.scrollWidth - root.clientWidth, drawn.length,
            report.querySelector("svg").getBoundingClientRect().width > 250]
    }</script>"""
    frame = f'<iframe style="width:{width}px" srcdoc="{escape(page.source)}"></iframe>'
    seen = browse(tmp_path, f"<body>{frame}{measure}</body>", "--dump-dom")
    assert re.search(r'title="(.*?)"', seen).group(1) == "0,36,true"


@needs_browser
def test_a_browser_draws_dark_text_and_colours_on_white(write, tmp_path):
    page, file = write(), tmp_path / "page.png"
    browse(tmp_path, page.source, f"--screenshot={file}", "--window-size=1000,1400")
    with Image.open(file) as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3).astype(int)
    assert np.all(pixels[0] == 255) and 0.4 < np.all(pixels > 240, axis=1).mean() < 0.95
    for colour in ((0, 0x72, 0xB2), (0xD5, 0x5E, 0), (0x1B, 0x1F, 0x24)):
        assert np.all(pixels == colour, axis=1).sum() > 100


def test_what_no_report_can_be_of(inspector, plates, tmp_path):
    """Before the work: a folder, one that is not there, rows of features."""
    with pytest.raises(IsADirectoryError, match="path="):
        write_report(inspector, plates.images, tmp_path)
    with pytest.raises(FileNotFoundError, match="path="):
        write_report(inspector, plates.images, tmp_path / "none" / "report.html")
    rows = np.random.default_rng(0).normal(size=(8, 3))
    fitted = COFTDetector(max_iter=0, random_state=0).fit(rows)
    with pytest.raises(ValueError, match="A report shows images; .* fitted on rows of features"):
        write_report(fitted, rows, tmp_path / "report.html")
    assert not list(tmp_path.iterdir())
