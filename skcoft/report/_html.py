"""The elements of a report as HTML: one page without scripts and external resources.

User input (names, titles, errors, parameters) is escaped here, except for the cells of ``table``
and the verdict of ``card``, which are HTML.
"""

from collections.abc import Iterable, Sequence
from html import escape as escape_html

from .._utils.text import printable
from ._images import MAP_COLORS, MAP_MAX

VERDICTS = {  # distinguished by word and sign as well as by colour
    1: '<span class="verdict normal">● normal</span>',
    -1: '<span class="verdict anomalous">▲ anomalous</span>',
}
UNREADABLE_VERDICT = '<span class="verdict unreadable">✕ unreadable</span>'
STYLE = """
:root{color-scheme:light;--ink:#1b1f24;--muted:#57606a;--line:#d0d7de;--paper:#f6f8fa}
*{box-sizing:border-box}
body{margin:0;background:#fff;color:var(--ink);font:16px/1.5 system-ui,"Segoe UI",Roboto,Helvetica,
Arial,sans-serif}
main{max-width:72rem;margin:0 auto;padding:1.5rem 1.25rem 3rem}
h1{font-size:1.9rem;line-height:1.2;margin:0 0 .35rem;overflow-wrap:anywhere}
h2{font-size:1.25rem;margin:2.5rem 0 .6rem;padding-top:.9rem;border-top:1px solid var(--line)}
p{max-width:46rem;margin:.5rem 0}
.lead{font-size:1.15rem;max-width:none}
.side{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(26rem,100%),1fr));
gap:.5rem 2.5rem;align-items:center}
.muted,figcaption,caption{color:var(--muted);font-size:.9rem}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(8.5rem,1fr));gap:.75rem;
margin:1.25rem 0;padding:0;list-style:none}
.tiles li{background:var(--paper);border:1px solid var(--line);border-left:5px solid #8c959f;
border-radius:6px;padding:.6rem .8rem}
.tiles b{display:block;font-size:1.8rem;line-height:1.2;font-variant-numeric:tabular-nums}
.tiles .normal{border-left-color:#0072b2}.tiles .anomalous{border-left-color:#d55e00}
.alert{border:1px solid #9a6700;border-left-width:5px;border-radius:6px;background:#fff8e5;
padding:.6rem .9rem;max-width:none}
.alert ul{margin:.3rem 0 0;padding-left:1.2rem;overflow-wrap:anywhere}
.chart{margin:.5rem 0;max-width:42rem}
.chart svg{display:block;width:100%;height:auto;font:11.5px system-ui,Helvetica,Arial,sans-serif;
fill:var(--ink)}
.key{display:flex;flex-wrap:wrap;gap:.2rem 1.2rem;margin:.3rem 0;padding:0;list-style:none}
.key i{display:inline-block;width:.9em;height:.9em;margin-right:.4em;vertical-align:-.1em}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(21rem,100%),1fr));
gap:1rem;margin:1rem 0;padding:0;list-style:none}
.wide-cards{grid-template-columns:repeat(auto-fill,minmax(min(30rem,100%),1fr))}
.cards>li{border:1px solid var(--line);border-radius:8px;padding:.7rem .8rem;min-width:0}
.cards h3{font-size:1rem;margin:0 0 .1rem;overflow-wrap:anywhere}
.cards p{margin:0 0 .5rem}
.row{display:grid;grid-template-columns:repeat(auto-fit,minmax(7.5rem,1fr));gap:.5rem}
figure{margin:0;min-width:0}
.row img{display:block;width:100%;height:auto;border-radius:4px}
.scale{max-width:24rem;margin:.7rem 0}
.scale i{display:block;height:.9rem;border-radius:3px;border:1px solid var(--line)}
.scale span{display:flex;justify-content:space-between;font-size:.85rem}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
caption{text-align:left;padding-bottom:.4rem}
th,td{padding:.35rem .7rem;border-bottom:1px solid var(--line);text-align:left;vertical-align:top}
th{white-space:nowrap}
td.name,dd{overflow-wrap:anywhere}
td.name{min-width:9rem}
.number{text-align:right;white-space:nowrap}
.verdict{font-weight:600;white-space:nowrap}
.verdict.normal{color:#005a8d}.verdict.anomalous{color:#a84300}.verdict.unreadable{color:#6e4600}
.mismatch{background:#fff1e5}
dl{display:grid;grid-template-columns:minmax(8rem,max-content) 1fr;gap:.25rem 1.2rem;margin:0}
dt{color:var(--muted)}dd{margin:0}
a{color:#005a8d}
@media(max-width:34rem){main{padding:1rem .8rem 2rem}h1{font-size:1.5rem}
dl{grid-template-columns:1fr}dd{margin-bottom:.4rem}th,td{padding:.35rem .4rem}
.chart svg{font-size:13px}}
@media print{@page{margin:14mm}body{font-size:10.5pt}main{max-width:none;padding:0}
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}
.cards,.wide-cards{grid-template-columns:1fr 1fr}
.cards>li,.chart,tr,.tiles{break-inside:avoid}h2{break-after:avoid}thead{display:table-header-group}
.wide{overflow:visible}}
"""


def escape(text: object) -> str:
    """Return text for HTML; characters that are not printable are shown as escapes."""
    return escape_html(printable(text))


def page(title: str, sections: Iterable[str]) -> str:
    """Return the whole document; its content security policy blocks all external resources."""
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(sections)
        + "\n</main>\n</body>\n</html>\n"
    )


def heading(title: str, lead: str, note: str) -> str:
    """Return the title, a sentence that sums up the result, and a note."""
    return (
        f'<header>\n<h1>{escape(title)}</h1>\n<p class="lead">{escape(lead)}</p>\n'
        f'<p class="muted">{escape(note)}</p>\n</header>'
    )


def tiles(counts: Iterable[tuple[object, str, str]]) -> str:
    """Return tiles with key figures, each given as (figure, label, class)."""
    items = [
        f'<li class="{css_class}"><b>{escape(figure)}</b>{escape(label)}</li>'
        for figure, label, css_class in counts
    ]
    return '<ul class="tiles">\n' + "\n".join(items) + "\n</ul>"


def alert(text: str, items: Iterable[tuple[str, str]]) -> str:
    """Return a box that lists failures, each given as (name, reason)."""
    lines = "".join(f"<li>{escape(name)}: {escape(reason)}</li>" for name, reason in items)
    return f'<div class="alert" role="note"><b>{escape(text)}</b><ul>{lines}</ul></div>'


def section(title: str, *content: str) -> str:
    """Return a section of the page with its heading."""
    return "\n".join(["<section>", f"<h2>{escape(title)}</h2>", *content, "</section>"])


def paragraph(text: str) -> str:
    """Return plain text as a paragraph."""
    return f'<p class="muted">{escape(text)}</p>'


def chart(svg: str, key: Iterable[tuple[str, str]]) -> str:
    """Return a chart with its key, each entry given as (style of the mark, meaning)."""
    items = "".join(f'<li><i style="{style}"></i>{escape(meaning)}</li>' for style, meaning in key)
    return (
        f'<figure class="chart">{svg}<figcaption><ul class="key">{items}</ul></figcaption>'
        "</figure>"
    )


def side_by_side(*content: str) -> str:
    """Return elements that stand side by side if the page is wide enough."""
    return '<div class="side">\n' + "\n".join(content) + "\n</div>"


def map_scale() -> str:
    """Return the colour scale of the anomaly maps."""
    stops = ",".join("rgb({},{},{})".format(*colour) for colour in MAP_COLORS)
    marks = [f"{MAP_MAX * share / 3:.0f}" for share in range(4)]
    marks[-1] += " or more"
    return (
        f'<div class="scale" role="img" aria-label="Scale of the maps: {", ".join(marks)}">'
        f'<i style="background:linear-gradient(90deg,{stops})"></i>'
        f"<span>{''.join(f'<span>{mark}</span>' for mark in marks)}</span></div>"
    )


def card(name: str, verdict: str, details: str, images: Iterable[tuple[str, str, str]]) -> str:
    """Return the card of an image; ``images`` are given as (data URI, alt text, caption)."""
    figures = "".join(
        f'<figure><img src="{uri}" alt="{escape(alt)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
        for uri, alt, caption in images
    )
    return (
        f'<li><h3>{escape(name)}</h3><p>{verdict} <span class="muted">{escape(details)}</span></p>'
        f'<div class="row">{figures}</div></li>'
    )


def cards(items: Iterable[str], wide: bool) -> str:
    """Return cards in a grid; wide ones hold three images each."""
    return f'<ol class="cards{" wide-cards" if wide else ""}">\n' + "\n".join(items) + "\n</ol>"


def table(
    caption: str,
    columns: Sequence[tuple[str, str]],
    rows: Iterable[tuple[Sequence[str], str]],
    label: str = "All images",
) -> str:
    """Return a table of columns (heading, class) and rows (cells as HTML, class)."""
    head = "".join(
        f'<th scope="col" class="{css_class}">{escape(text)}</th>' for text, css_class in columns
    )
    body = [
        f'<tr class="{row_class}">'
        + "".join(
            f'<td class="{css_class}">{cell}</td>'
            for cell, (_, css_class) in zip(cells, columns, strict=True)
        )
        + "</tr>"
        for cells, row_class in rows
    ]
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{escape(label)}"><table>'
        f"<caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>\n<tbody>\n"
        + "\n".join(body)
        + "\n</tbody></table></div>"
    )


def definition_list(pairs: Iterable[tuple[str, object]]) -> str:
    """Return names and values as a definition list."""
    items = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in pairs)
    return f"<dl>{items}</dl>"
