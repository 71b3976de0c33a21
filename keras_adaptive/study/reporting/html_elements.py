"""Elements of an HTML page that needs nothing else: no script, nothing is fetched."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence

STYLE = """
:root { color-scheme: light dark; --ink: #1d232b; --soft: #5b6673; --line: #d8dde3;
  --paper: #fff; --shade: #f4f6f8; --supported: #00588c; --refuted: #a84300;
  --undecided: #5b6673; }
@media (prefers-color-scheme: dark) { :root { --ink: #dfe4ea; --soft: #9aa5b1;
  --line: #39424d; --paper: #14181d; --shade: #1d232a; --supported: #66b8ec;
  --refuted: #f29a5e; --undecided: #9aa5b1; } }
body { margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 62rem;
  background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.3rem; margin: 3rem 0 .75rem; padding-top: .75rem;
  border-top: 1px solid var(--line); }
h3 { font-size: 1.08rem; margin: 2rem 0 .5rem; overflow-wrap: anywhere; }
h4 { font-size: 1rem; margin: 1.25rem 0 .25rem; color: var(--soft); font-weight: 600; }
p, li { max-width: 46rem; overflow-wrap: anywhere; }
.soft, figcaption { color: var(--soft); }
.advice { background: var(--shade); border-left: .3rem solid var(--supported);
  padding: .75rem 1rem; margin: 1rem 0; max-width: none; }
.scroll { overflow-x: auto; margin: .5rem 0 1rem; }
table { border-collapse: collapse; font-size: .92rem;
  font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .35rem 1rem .35rem 0;
  border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; white-space: nowrap; }
small { display: block; color: var(--soft); font-weight: 400; }
.supported, .refuted, .undecided { font-weight: 600; }
.supported { color: var(--supported); } .refuted { color: var(--refuted); }
.undecided { color: var(--undecided); }
figure { margin: 1rem 0 2rem; }
figure img { display: block; max-width: 100%; height: auto; background: #fff;
  border: 1px solid var(--line); border-radius: .3rem; }
figcaption { font-size: .9rem; margin-top: .4rem; max-width: 46rem; }
pre { background: var(--shade); padding: .75rem 1rem; overflow-x: auto;
  white-space: pre-wrap; overflow-wrap: anywhere; }
summary { cursor: pointer; color: var(--soft); }
@media print { body { max-width: none; padding: 0; } figure, tr { break-inside: avoid; }
  .scroll { overflow: visible; } }
"""


class Markup(str):
    """Text that is HTML and is not escaped."""


def element(name: str, *children: str, **attributes: str) -> Markup:
    """Returns an HTML element.

    Args:
        name: Name of its tag.
        *children: Its content; text that is not `Markup` is escaped.
        **attributes: Its attributes, with `kind` for `class`.

    Example:
        >>> element("p", "1 < 2", kind="soft")
        '<p class="soft">1 &lt; 2</p>'
    """
    written = "".join(
        f' {"class" if key == "kind" else key}="{html.escape(value)}"'
        for key, value in attributes.items()
    )
    inside = "".join(
        child if isinstance(child, Markup) else html.escape(child) for child in children
    )
    return Markup(f"<{name}{written}>{inside}</{name}>")


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Markup:
    """Returns a table that scrolls if it is too wide."""
    head = element("tr", *(element("th", heading) for heading in headings))
    body = [element("tr", *(element("td", cell) for cell in row)) for row in rows]
    whole = element("table", element("thead", head), element("tbody", *body))
    return element("div", whole, kind="scroll")


def figure(png: bytes, caption: str) -> Markup:
    """Returns a picture that is part of the page."""
    data = base64.b64encode(png).decode()
    source, words = f"data:image/png;base64,{data}", html.escape(caption)
    image = Markup(f'<img src="{source}" alt="{words}">')
    return element("figure", image, element("figcaption", caption))


def page(title: str, body: Iterable[str]) -> str:
    """Returns a whole HTML page.

    Args:
        title: Title of the page.
        body: Its elements.
    """
    head = element(
        "head",
        element("title", title),
        Markup('<meta charset="utf-8">'),
        Markup('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        element("style", Markup(STYLE)),
    )
    whole = head + element("body", element("main", *body))
    return f'<!DOCTYPE html>\n<html lang="en">{whole}</html>\n'
