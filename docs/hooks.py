"""What the site needs beside MkDocs: formulas become MathML, which browsers draw without scripts or fonts, names in
docstrings become links, and no page loads anything from elsewhere.
"""

from __future__ import annotations

import html
import re
from typing import Any

from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError

FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)
LOADED = re.compile(r"""<(?:script|img|iframe|source|link)\b[^>]*\b(?:src|href)=["']?(?:https?:)?//[^"'> ]*""")
NAME = re.compile(r":(?:func|class|meth|mod|data):<code>~?([^<]+)</code>")


def mathml(match: re.Match[str]) -> str:
    """One formula, inline or on a line of its own."""
    return str(convert(html.unescape(match[3]), display="block" if match[2] == "[" else "inline"))


def link(match: re.Match[str]) -> str:
    """A name, linked to where it is described, if it is."""
    return f'<autoref identifier="{match[1]}" optional><code>{match[1]}</code></autoref>'


def on_page_content(content: str, **_: Any) -> str:
    """The page with its formulas drawn and its names linked."""
    return NAME.sub(link, FORMULA.sub(mathml, content))


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """The page as it is; refuses one that a browser without network could not show whole."""
    elsewhere = LOADED.search(output)
    if elsewhere is not None:
        raise PluginError(f"{page.file.src_uri} loads from elsewhere: {elsewhere[0]}")
    return output
