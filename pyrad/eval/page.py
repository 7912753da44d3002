"""Headings, tables, drawings and pictures -> one HTML page that loads nothing. All text is escaped here."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape

from pyrad.eval.gallery import Choice

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2024; --soft: #62686f; --line: #dfe3e8;
  --card: #f5f7f9; --page: #fff; }
@media (prefers-color-scheme: dark) { :root { --ink: #e5e8eb; --soft: #9aa2ab;
  --line: #333a42; --card: #1d2228; --page: #14181c; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1080px; padding: 2rem 1.25rem 4rem; background: var(--page);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .8rem; padding-top: .9rem; border-top: 1px solid var(--line); }
p { max-width: 75ch; margin: .5rem 0; }
.soft, figcaption, caption { color: var(--soft); font-size: .88rem; }
.note { border-left: 3px solid #d0731a; padding: .1rem .8rem; max-width: 75ch; }
.cards { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1.4rem 0; padding: 0; list-style: none; }
.cards li { flex: 1 1 11rem; background: var(--card); border-radius: 8px; padding: .9rem 1.1rem; }
.cards b { display: block; font-size: 1.9rem; line-height: 1.25; font-variant-numeric: tabular-nums; }
.cards span { display: block; color: var(--soft); font-size: .85rem; }
figure { margin: 1rem 0; }
figure svg { max-width: 100%; height: auto; display: block; }
.wide { overflow-x: auto; }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(19rem, 1fr)); gap: 0 2rem; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; margin: .6rem 0; }
caption { text-align: left; padding-bottom: .4rem; }
th, td { padding: .32rem .9rem .32rem 0; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; overflow-wrap: anywhere; }
thead th { color: var(--soft); font-weight: 600; }
tbody th { font-weight: 500; }
.number { text-align: right; white-space: nowrap; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(155px, 1fr)); gap: 1.1rem; }
.gallery figure { margin: 0; }
.gallery img { width: 100%; display: block; background: #000; border-radius: 4px; }
.gallery figcaption { line-height: 1.35; padding-top: .35rem; overflow-wrap: anywhere; }
.gallery strong { color: var(--ink); font-weight: 600; }
code, pre { font: .84rem/1.5 ui-monospace, monospace; }
pre { background: var(--card); border-radius: 8px; padding: .9rem 1.1rem; overflow-x: auto;
  white-space: pre-wrap; overflow-wrap: anywhere; }
"""


def page(title: str, parts: Iterable[str]) -> str:
    """Return the whole page; ``parts`` are HTML."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        # Said to the browser too: whatever a label may hold, nothing is loaded and nothing runs.
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(parts)
        + "\n</main>\n</body>\n</html>\n"
    )


def heading(title: str) -> str:
    """Return the page's heading."""
    return f"<h1>{escape(title)}</h1>"


def section(title: str, *parts: str) -> str:
    """Return a heading and what stands under it."""
    return "\n".join([f"<section>\n<h2>{escape(title)}</h2>", *parts, "</section>"])


def paragraph(text: str, kind: str = "") -> str:
    """Return a paragraph of plain text; ``kind`` is "soft", "note" or nothing."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def cards(headlines: Iterable[tuple[str, str, str, str]]) -> str:
    """Return name, value and the intervals by patient and by image, large."""
    items = []
    for name, value, by_patient, by_image in headlines:
        lines = (
            [f"{by_patient} by patient", f"{by_image} by image"] if by_patient else ["mean of the recalls"]
        )
        told = "".join(f"<span>{escape(line)}</span>" for line in lines)
        items.append(f"<li><span>{escape(name)}</span><b>{escape(value)}</b>{told}</li>")
    return '<ul class="cards">\n' + "\n".join(items) + "\n</ul>"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "", *, numbers: int = 0) -> str:
    """Return a table; the first cell of a row is its heading; columns from ``numbers`` on hold numbers."""

    def cell(tag: str, place: int, text: str, scope: str = "") -> str:
        kind = ' class="number"' if numbers and place >= numbers else ""
        return f"<{tag}{scope}{kind}>{escape(text)}</{tag}>"

    head = "".join(cell("th", place, text, ' scope="col"') for place, text in enumerate(heads))
    body = "\n".join(
        "<tr>"
        + cell("th", 0, row[0], ' scope="row"')
        + "".join(cell("td", place, text) for place, text in enumerate(row[1:], start=1))
        + "</tr>"
        for row in rows
    )
    return (
        '<div class="wide"><table>'
        + (f"<caption>{escape(caption)}</caption>" if caption else "")
        + (f"<thead><tr>{head}</tr></thead>" if heads else "")
        + f"<tbody>\n{body}\n</tbody></table></div>"
    )


def side_by_side(*parts: str) -> str:
    """Return parts in columns where the window is wide enough."""
    return '<div class="columns">\n' + "\n".join(f"<div>{part}</div>" for part in parts) + "\n</div>"


def drawing(svg: str, caption: str) -> str:
    """Return an inline SVG of `pyrad.eval.figures` with its caption."""
    return f"<figure>\n{svg}\n<figcaption>{escape(caption)}</figcaption>\n</figure>"


def gallery(choices: Sequence[Choice], pictures: Sequence[bytes]) -> str:
    """Return pictures (PNG), each with its labels, the score and its key."""
    figures = []
    for choice, picture in zip(choices, pictures, strict=True):
        data = base64.b64encode(picture).decode()
        told = escape(f"true {choice.truth}, predicted {choice.said}")
        figures.append(
            f'<figure><img alt="{told}" src="data:image/png;base64,{data}"><figcaption>'
            f"true <strong>{escape(choice.truth)}</strong><br>"
            f"predicted <strong>{escape(choice.said)}</strong> {choice.score:.3f}<br>"
            f"<code>{escape(choice.key)}</code></figcaption></figure>"
        )
    return '<div class="gallery">\n' + "\n".join(figures) + "\n</div>"


def commands(lines: Iterable[str]) -> str:
    """Return lines for a shell."""
    return "<pre>" + escape("\n".join(lines)) + "</pre>"
