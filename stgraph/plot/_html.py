"""The small pieces of HTML the report is made of. Every piece escapes the text it is given."""

import base64
import html
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real

import numpy as np
from matplotlib.figure import Figure

DPI = 110
# Control characters cannot stand in HTML, and lone surrogates (odd file names) cannot be written at all.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
# What YAML would read as something else than the string it is.
_NOT_PLAIN = re.compile(
    r"(?i)^$|^[\s\-?:,\[\]{}#&*!|>'\"%@`]|:\s|\s#|[\s:]$|[\n\t]|^(null|~|true|false|yes|no)$|^[\d.+]"
)


def text(value: object) -> str:
    """Any value as escaped text, safe between tags and inside quoted attributes."""
    return html.escape(_UNPRINTABLE.sub("\ufffd", str(value)), quote=True)


def value_text(value: object) -> str:
    """Escape a value of a table: whole numbers with thousands separators, others to four digits."""
    if value is None:
        return "–"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, Integral):
        return f"{int(value):,}"
    if isinstance(value, Real):
        number = float(value)
        if not np.isfinite(number):
            return "–"
        return f"{number:,.0f}" if 1e4 <= abs(number) < 1e15 else f"{number:.4g}"
    return text(value)


def duration(seconds: float) -> str:
    """Seconds as a person says them.

    Examples
    --------
    >>> from stgraph.plot._html import duration
    >>> duration(4.25), duration(272), duration(3900)
    ('4.2 s', '4 min 32 s', '1 h 05 min')
    """
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, foot: Sequence[str] = ()) -> str:
    """Lay out a table whose first column names the rows; its cells are HTML already."""

    def line(cells: Sequence[str], tag: str = "td") -> str:
        first = f'<th scope="row">{cells[0]}</th>' if tag == "td" else f'<th scope="col">{cells[0]}</th>'
        close = '<th scope="col">{}</th>' if tag == "th" else "<td>{}</td>"
        return "<tr>" + first + "".join(close.format(cell) for cell in cells[1:]) + "</tr>"

    top = f"<thead>{line(head, 'th')}</thead>" if any(head) else ""
    bottom = f"<tfoot>{line(foot)}</tfoot>" if foot else ""
    body = "\n".join(line(row) for row in rows)
    return f'<div class="scroll"><table>{top}<tbody>\n{body}\n</tbody>{bottom}</table></div>'


def picture(figure: Figure, *, alt: str, caption: str = "") -> str:
    """Embed a figure as PNG on a white card; ``alt`` is plain text, ``caption`` HTML."""
    buffer = io.BytesIO()
    # Without the Software entry, which names matplotlib's version, equal figures are equal bytes.
    figure.savefig(buffer, format="png", dpi=DPI, facecolor="white", metadata={"Software": None})
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    width, height = (round(float(side) * DPI) for side in figure.get_size_inches())
    below = f"<figcaption>{caption}</figcaption>" if caption else ""
    return (
        f'<figure><img src="data:image/png;base64,{data}" width="{width}" height="{height}" '
        f'alt="{text(alt)}">{below}</figure>'
    )


def legend(colors: Mapping[str, str], *, name: str) -> str:
    """Coloured chips with their labels."""
    chips = "".join(
        f'<li><i style="background:{text(color)}"></i>{text(label)}</li>' for label, color in colors.items()
    )
    return f'<div class="legend"><b>{text(name)}</b><ul>{chips}</ul></div>'


def outline(value: object, depth: int = 0) -> str:
    """Nested settings in the way YAML writes them, as plain text.

    Examples
    --------
    >>> from stgraph.plot._html import outline
    >>> print(outline({"model": {"heads": 4, "layers": [64, 32]}, "name": "12"}))
    model:
      heads: 4
      layers: [64, 32]
    name: "12"
    """
    pad = "  " * depth
    if isinstance(value, Mapping) and value:
        lines = []
        for key, item in value.items():
            nested = bool(item) and (
                isinstance(item, Mapping) or (_is_list(item) and not all(map(_is_scalar, _items(item))))
            )
            gap = "\n" if nested else " "
            lines.append(f"{pad}{_scalar(key)}:{gap}{outline(item, depth + 1 if nested else 0)}")
        return "\n".join(lines)
    if _is_list(value):
        items = _items(value)
        if all(map(_is_scalar, items)):
            return "[" + ", ".join(map(_scalar, items)) + "]"
        return "\n".join(f"{pad}- {outline(item, depth + 1).lstrip()}" for item in items)
    return "{}" if isinstance(value, Mapping) else _scalar(value)


def page(*, title: str, header: str, sections: Sequence[tuple[str, str]]) -> str:
    """Put (heading, HTML) sections and a header into a whole document."""
    names = [(f"s{i}", heading, body) for i, (heading, body) in enumerate(sections)]
    links = "".join(f'<a href="#{key}">{text(heading)}</a>' for key, heading, _ in names)
    body = "\n".join(
        f'<section id="{key}"><h2>{text(heading)}</h2>\n{inner}\n</section>' for key, heading, inner in names
    )
    return _PAGE.format(title=text(title), css=_CSS, header=header, links=links, body=body)


def _items(value: object) -> list[object]:
    if isinstance(value, set | frozenset):
        return sorted(value, key=str)
    return list(value) if isinstance(value, Iterable) else []


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple | set | frozenset | np.ndarray)


def _is_scalar(value: object) -> bool:
    return not isinstance(value, Mapping) and not _is_list(value)


def _scalar(value: object) -> str:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, Real):
        return str(value)
    plain = str(value)
    return json.dumps(plain, ensure_ascii=False) if _NOT_PLAIN.search(plain) else plain


# The policy lets the page load nothing but what is inside it, whatever text it carries.
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{css}</style>
</head>
<body>
<header>
{header}
<nav aria-label="Sections">{links}</nav>
</header>
<main>
{body}
</main>
</body>
</html>
"""

_CSS = """
:root { --ink: #1d2429; --soft: #5d6970; --line: #dfe4e7; --page: #ffffff; --well: #f5f7f8;
  --accent: #0b6aa2; --note: #fff7e0; --note-edge: #e0a800; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e9ec; --soft: #9aa7ae; --line: #333c42; --page: #14191c; --well: #1c2327;
    --accent: #6cb8e6; --note: #2b2611; --note-edge: #b98d0c; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1140px; padding: 2.5rem 1.75rem 4rem; background: var(--page);
  color: var(--ink); font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue",
  "Liberation Sans", Arial, sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .8rem; letter-spacing: -.015em;
  overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 0 0 1rem; }
h3 { font-size: 1rem; margin: 0 0 .6rem; overflow-wrap: anywhere; }
h3 span, small { color: var(--soft); font-weight: 400; font-size: .87em; }
p { margin: .4rem 0 .9rem; max-width: 46rem; }
p.soft { color: var(--soft); font-size: .9rem; }
code, pre { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace;
  font-size: .84rem; }
pre { background: var(--well); border: 1px solid var(--line); border-radius: 6px; padding: .65rem .85rem;
  margin: 0 0 1.4rem; overflow-x: auto; white-space: pre-wrap; overflow-wrap: anywhere; }
.brand { color: var(--accent); font-size: .8rem; font-weight: 600; letter-spacing: .04em;
  margin: 0 0 .3rem; }
.facts { display: flex; flex-wrap: wrap; gap: .9rem 2.6rem; margin: 0 0 1.4rem; }
.facts div { display: flex; flex-direction: column-reverse; }
.facts dt { color: var(--soft); font-size: .85rem; }
.facts dd { margin: 0; font-size: 1.5rem; font-weight: 600; line-height: 1.25;
  font-variant-numeric: tabular-nums; }
nav { display: flex; flex-wrap: wrap; gap: .3rem 1.3rem; border-top: 1px solid var(--line);
  padding-top: .8rem; font-size: .9rem; }
a { color: var(--accent); text-decoration: none; }
a:hover { text-decoration: underline; }
section { margin-top: 2.6rem; padding-top: 1.5rem; border-top: 1px solid var(--line); }
.notes { background: var(--note); border-left: 3px solid var(--note-edge); border-radius: 0 6px 6px 0;
  margin: 0; padding: .75rem 1rem .75rem 2.1rem; overflow-wrap: anywhere; }
.notes li + li { margin-top: .3rem; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 420px), 1fr));
  gap: 1.6rem 1.5rem; align-items: start; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 360px), 1fr));
  gap: 1rem 1.5rem; align-items: start; }
.pair > :only-child { max-width: calc(50% - .75rem); }
article + article { margin-top: 1.8rem; }
.grid article + article { margin-top: 0; }
article, figure { min-width: 0; break-inside: avoid; }
figure { margin: 0; background: #ffffff; color: #1d2429; border: 1px solid var(--line); border-radius: 6px;
  padding: .7rem; }
figure img { display: block; margin: 0 auto; max-width: 100%; height: auto; }
figcaption { font-size: .87rem; color: #5d6970; margin-top: .45rem; overflow-wrap: anywhere; }
figcaption b { color: #1d2429; }
.grid.small { grid-template-columns: repeat(auto-fill, minmax(min(100%, 320px), 1fr)); }
.small figure { margin-bottom: .6rem; }
.legend { display: flex; gap: .2rem .9rem; align-items: baseline; font-size: .87rem; margin: 0 0 .6rem; }
.legend b { flex: none; min-width: 6.2rem; font-weight: 600; }
.small .legend b { min-width: 0; }
.legend ul { display: flex; flex-wrap: wrap; gap: .15rem 1rem; list-style: none; margin: 0; padding: 0; }
.legend li { display: flex; align-items: center; gap: .4rem; overflow-wrap: anywhere; }
.legend i { flex: none; width: .8rem; height: .8rem; border-radius: 50%;
  border: 1px solid rgb(128 128 128 / .35); }
.legend + .grid, .legend + article { margin-top: 1.2rem; }
.scroll { overflow-x: auto; margin: 0 0 1.2rem; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .32rem 1.1rem .32rem 0; text-align: right; border-bottom: 1px solid var(--line);
  vertical-align: baseline; }
th:first-child { text-align: left; padding-right: 2rem; }
tbody th { font-weight: 400; }
thead th { font-size: .85rem; color: var(--soft); font-weight: 600; border-bottom-color: var(--soft);
  max-width: 14rem; overflow-wrap: break-word; vertical-align: bottom; }
td { white-space: nowrap; }
tfoot th, tfoot td { border-bottom: 0; border-top: 1px solid var(--soft); }
tfoot th { font-weight: 600; }
.left td { text-align: left; white-space: normal; overflow-wrap: anywhere; }
.bars td:last-child { width: 24rem; min-width: 8rem; padding-right: 0; }
.bar { display: block; height: .75rem; border-radius: 2px; background: var(--accent); min-width: 1px; }
details { margin: 0 0 .6rem; }
summary { cursor: pointer; color: var(--accent); font-size: .92rem; margin-bottom: .7rem; }
@media print {
  :root { --ink: #000000; --soft: #444444; --line: #cccccc; --page: #ffffff; --well: #f5f5f5;
    --accent: #0b6aa2; --note: #fff7e0; }
  body { max-width: none; padding: 0; font-size: 10.5pt; }
  nav { display: none; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  section { margin-top: 1.4rem; padding-top: .9rem; }
  h2, h3, .legend { break-after: avoid; }
  tr { break-inside: avoid; }
  .grid, .pair { grid-template-columns: 1fr 1fr; }
}
@media (max-width: 640px) {
  body { padding: 1.2rem 1rem 2rem; }
  .legend { flex-direction: column; }
  .pair > :only-child { max-width: none; }
}
"""
