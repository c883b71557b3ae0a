"""The bytes that each token stands for, where the decoder of a tokenizer allows to say so.

Two kinds of decoder do: byte-level BPE, whose tokens are written in printable stand-ins for bytes,
and SentencePiece, whose tokens have `▁` for a space and `<0x0A>` for a byte. All others are left to
the native library.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Core

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def _byte_level() -> dict[str, int]:
    """GPT-2's table: printable bytes are themselves, the others characters from U+0100 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {chr(byte): byte for byte in printable}
    others = (byte for byte in range(256) if byte not in set(printable))
    return table | {chr(256 + i): byte for i, byte in enumerate(others)}


BYTE_LEVEL = _byte_level()


class Pieces:
    """Token ids to bytes. `strips` says that one space before the whole text is not part of it."""

    def __init__(self, core: Core, style: str, *, strips: bool, byte_tokens: bool) -> None:
        self._core = core
        self._style = style
        self._byte_tokens = byte_tokens
        self.strips = strips
        self._known: dict[int, bytes] = {}

    def __getitem__(self, index: int) -> bytes:
        found = self._known.get(index)
        if found is None:
            found = self._known[index] = self._bytes(self._core.id_to_token(index) or "")
        return found

    def _bytes(self, token: str) -> bytes:
        if self._style == "bytes":
            try:
                return bytes(BYTE_LEVEL[character] for character in token)
            except KeyError:  # an added token, written as it is
                return token.encode("utf-8", "replace")
        if self._byte_tokens and (found := _BYTE.fullmatch(token)):
            return bytes([int(found[1], 16)])
        return token.replace("▁", " ").encode("utf-8", "replace")


def pieces_of(core: Core) -> Pieces | None:
    """The table of a tokenizer, or None where its decoder looks at more than one token."""
    if core.decoder is None:
        return None
    state = json.loads(core.decoder.__getstate__())
    steps = state["decoders"] if state.get("type") == "Sequence" else [state]
    if [step["type"] for step in steps] == ["ByteLevel"]:
        return Pieces(core, "bytes", strips=False, byte_tokens=False)
    rest = [step for step in steps if step["type"] not in ("ByteFallback", "Fuse")]
    fallback = len(rest) < len(steps)
    if not rest or not _replaces_space(rest[0]):
        return None
    if len(rest) == 1:
        return Pieces(core, "spm", strips=False, byte_tokens=fallback)
    if len(rest) == 2 and _strips_one_space(rest[1]) and any(s["type"] == "Fuse" for s in steps):
        return Pieces(core, "spm", strips=True, byte_tokens=fallback)
    return None


def _replaces_space(step: dict[str, Any]) -> bool:
    return (
        step["type"] == "Replace"
        and step.get("pattern") == {"String": "▁"}
        and step.get("content") == " "
    )


def _strips_one_space(step: dict[str, Any]) -> bool:
    wanted = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    return step == wanted
