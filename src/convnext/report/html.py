"""Pieces of a page: escaped text, figures as people read them, bars. Every word from a file passes through `text`."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from convnext.report.run_folder import finite

UNKNOWN = '<span class="soft">–</span>'


def text(value: Any) -> str:
    """Anything as HTML text, safe inside elements and quoted attributes; broken file names become question marks."""
    return html.escape(str(value).encode("utf-8", "replace").decode())


def percent(value: Any, digits: int = 1) -> str:
    """A fraction as a percentage, with a thin space that does not break."""
    share = finite(value)
    return UNKNOWN if share is None else f"{100 * share:.{digits}f}\N{NARROW NO-BREAK SPACE}%"


def interval(bounds: Any) -> str:
    """[low, high] as "91.2–94.8 %", or nothing if the file holds something else."""
    low, high = (finite(bound) for bound in bounds) if isinstance(bounds, list) and len(bounds) == 2 else (None, None)
    return "" if low is None or high is None else f"{100 * low:.1f}–{percent(high)}"


def count(value: Any) -> str:
    """A whole number with its thousands set apart."""
    number = finite(value)
    return UNKNOWN if number is None else f"{number:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def decimal(value: Any) -> str:
    """A number to three digits, a small one as 2e−5, one from a thousand on as a whole number."""
    number = finite(value)
    if number is None or 1e3 <= abs(number) < 1e9:
        return count(number)
    short = f"{number:.3g}"
    if "e" in short:
        digits, exponent = short.split("e")
        short = f"{digits}e{int(exponent)}"
    return short.replace("-", "\N{MINUS SIGN}")


def bar(share: float | None, *, kind: str = "") -> str:
    """A small bar filled to `share` of 0..1; its figure stands beside it, so that it is hidden from screen readers."""
    width = 100 * min(max(share or 0.0, 0.0), 1.0)
    return f'<span class="bar {kind}" aria-hidden="true"><i style="width:{width:.1f}%"></i></span>'


def measure(share: float, *, kind: str = "") -> str:
    """A share as bar and percentage, for a column of them."""
    return f'{bar(share, kind=kind)}<span class="share">{percent(share)}</span>'


def section(title: str, *body: str, lead: str = "") -> str:
    """A section with a heading; none if there is nothing in it. `title`, `lead` and `body` are markup."""
    inside = "".join(body)
    lead = f'<p class="lead">{lead}</p>' if lead else ""
    return f"<section><h2>{title}</h2>{lead}{inside}</section>\n" if inside else ""


def details(summary: str, body: str, *, kind: str = "") -> str:
    """A part that opens on a click, and in print unless it is of the kind "long". Both are markup."""
    return f'<details class="{kind}"><summary>{summary}</summary>{body}</details>'


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, kind: str = "") -> str:
    """A table of markup cells; the first of each row is its heading, the following are figures."""
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    lines = (
        f'<tr><th scope="row">{row[0]}</th>' + "".join(f"<td>{cell}</td>" for cell in row[1:]) + "</tr>" for row in rows
    )
    return (
        f'<div class="scroll"><table class="{kind}"><thead><tr>{top}</tr></thead><tbody>{"".join(lines)}</tbody>'
        "</table></div>"
    )
