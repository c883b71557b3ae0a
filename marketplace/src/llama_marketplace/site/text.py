"""Words and addresses of strangers, fit to be shown: none of them steers what stands around it.

Escaping for HTML is not done here but by whatever writes HTML, for all text and always.
"""

from __future__ import annotations

from urllib.parse import urlsplit

_JOINERS = "\u200c\u200d"  # by these some scripts shape their letters


def clean(text: str, *, lines: bool = False) -> str:
    """Without what no reader sees: control characters, changes of direction, invisible signs.

    With `lines`, line ends and tabs stay; without, all that is space is one line's.
    """
    if lines:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if text.isprintable():
        return text
    stays = _JOINERS + "\n\t" if lines else _JOINERS
    return "".join(
        each if each.isprintable() or each in stays else " " if each.isspace() else ""
        for each in text
    )


def address(text: str | None) -> str | None:
    """An address that a link may lead to: http or https, and a host that is what it looks like."""
    if not text or not text.isascii() or not text.isprintable() or set(text) & set(' \\"<>'):
        return None
    try:
        parts = urlsplit(text)
        _ = parts.port  # raises where it is no number
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        return None
    return text
