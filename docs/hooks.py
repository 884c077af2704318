"""What the site needs beside MkDocs: formulas become MathML, which browsers draw without scripts or fonts."""

from __future__ import annotations

import html
import re
from typing import Any

from latex2mathml.converter import convert

FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)


def mathml(match: re.Match[str]) -> str:
    """One formula, inline or on a line of its own."""
    return str(convert(html.unescape(match[3]), display="block" if match[2] == "[" else "inline"))


def on_page_content(content: str, **_: Any) -> str:
    """The page with its formulas drawn."""
    return FORMULA.sub(mathml, content)
