"""Names of columns and files in pictures: in a font that has their letters, else by their code points."""

from __future__ import annotations

from functools import cache
from typing import Any

USUAL = "DejaVu Sans"  # comes with matplotlib
OTHERS = (  # what systems have for the letters that it lacks
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Noto Sans JP", "Noto Sans KR", "Source Han Sans SC",
    "WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "Microsoft YaHei", "SimHei", "PingFang SC", "Hiragino Sans",
    "Yu Gothic", "Malgun Gothic", "Apple SD Gothic Neo", "Noto Sans", "Noto Sans Devanagari", "Noto Sans Thai",
    "Arial Unicode MS", "Unifont",
)  # fmt: skip


def name(text: str) -> tuple[str, dict[str, Any]]:
    """The text and the properties to draw it with; no ``$`` is maths, letters that no font has are ``\\u8d1f``."""
    letters = {ord(letter) for letter in text if not letter.isspace()}
    families = [USUAL]
    missing = letters - _letters(USUAL)
    for family in OTHERS if missing else ():
        if missing & _letters(family):
            families.append(family)
            missing -= _letters(family)
    shown = "".join(f"\\u{ord(letter):04x}" if ord(letter) in missing else letter for letter in text)
    return shown, {"fontfamily": families, "parse_math": False}


@cache
def _letters(family: str) -> frozenset[int]:
    """The code points that an installed font draws; none of one that is not installed."""
    from matplotlib import font_manager

    if family not in {entry.name for entry in font_manager.fontManager.ttflist}:
        return frozenset()
    return frozenset(font_manager.get_font(font_manager.findfont(family)).get_charmap())
