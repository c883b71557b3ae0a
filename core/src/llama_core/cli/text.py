"""Words given on a command line, which a shell passes on as bytes, whatever they are."""

from __future__ import annotations

from typing import Any

import click


class Text(click.ParamType):
    """A text; bytes that are none are refused where they were typed."""

    name = "text"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        text = str(value)
        try:
            text.encode()
        except UnicodeEncodeError as error:
            before = len(text[: error.start].encode())
            self.fail(f"it is no UTF-8, from byte {before} on", param, ctx)
        return text
