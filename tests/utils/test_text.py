"""Names and messages that come from files: safe to show, and read back without doubt."""

import csv
import io
import json

import pandas as pd
from hypothesis import example, given, settings
from hypothesis import strategies as st

from skcoft._utils.text import printable, quote_name

# Characters of file names: any but NUL. Bytes that are not UTF-8 become U+DC80 to U+DCFF.
characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
undecodable = st.integers(0xDC80, 0xDCFF).map(chr)
hostile = st.sampled_from("=+-@\"'\\,;\t\n\r \x1b\x07\x7f\x9b\u202e\u2028\ufeff\u3000％＝")
names = st.text(st.one_of(characters, undecodable, hostile), min_size=1)


def read_name(cell):
    """The line that the documentation shows."""
    return json.loads(cell) if cell.startswith('"') else cell


def as_csv(*cells):
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([["path", "score"], *([c, 1] for c in cells)])
    return text.getvalue()


@settings(deadline=None)
@given(st.lists(names, min_size=1, max_size=4))
@example(["NA"])
@example(["", "nan", "-NaN", "None", "<NA>", "#N/A", "#N/A N/A", "1.#IND"])
@example(["=cmd|' /C calc'!A0", "+1", "-1.png", "@SUM(A1)", "a;=1+1"])
@example(['"a.png"', "a\\n.png", "a\n.png", " a.png", "a.png\t"])
def test_names_go_through_a_csv_file_and_back(names):
    content = as_csv(*map(quote_name, names)).encode("utf-8")
    rows = list(csv.DictReader(io.StringIO(content.decode("utf-8"), newline="")))
    assert [read_name(row["path"]) for row in rows] == names
    table = pd.read_csv(io.BytesIO(content), dtype={"path": str})
    assert list(map(read_name, table["path"])) == names
    cells = [quote_name(name) for name in names]
    assert all(cell.isprintable() for cell in cells)
    assert not any(cell.startswith(tuple("=+-@\t\r＝＋－＠")) for cell in cells)
    assert len(content.decode().splitlines()) == len(names) + 1


def test_ordinary_names_are_written_as_they_are():
    for name in (
        "a.png",
        "good/06.png",
        r"C:\photos\ä b.png",
        'say "x".png',
        "日本.png",
        "50%.png",
    ):
        assert quote_name(name) == name


@given(st.text(st.one_of(characters, undecodable, hostile)))
def test_everything_that_is_not_printable_is_shown_as_an_escape(text):
    assert printable(text).isprintable()
    assert printable(printable(text)) == printable(text)
    if text.isprintable():
        assert printable(text) == text


def test_escapes_are_those_of_json():
    assert printable("a\x1b[31m\n\u202eb\udcff") == r"a\u001b[31m\n\u202eb\udcff"
