"""Reads one call of a tool, a JSON object, while it is being written.

As soon as the name is known and the arguments begin they are passed on. An object that turns out to
be no call before that is given back unread; from there on its text is its arguments, come what may.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

from llama_core.builtin.reading import Reader, Reading

CHANNEL = "tool_call"
ARGUMENTS = ("arguments", "parameters")
MOST_NAME = 256  # characters
_PAIRS = {"}": "{", "]": "["}
ENDED = "the answer ends within it"


class CallReader(Reader):
    """Reads answers with calls in them. `salt` tells the calls of one answer from another's."""

    id_prefix = "call_"
    id_length = 24

    def __init__(self, salt: str = "") -> None:
        super().__init__()
        self._salt = salt
        self._num_calls = 0
        self._arguments: list[str] = []

    def call(self, marker: str, *, bare: bool = False) -> Reading[tuple[str | None, bool]]:
        """Read the object that begins here as a call: why it is none, and then nothing is read.

        A `bare` object, which nothing marks as a call, needs arguments to be one. What is malformed
        is read up to the marker, and whether that was found is the second answer.
        """
        start, self.kept = self.at, True
        one = _Call(self, bare)
        why = yield from one.members()
        if why is None and one.name is None:
            why = "it has no name"
        elif why is None and one.arguments is None and bare:
            why = "it has no arguments"
        elif why is None and one.arguments is None:
            one.begin("{}")
        self.kept = False
        if not one.begun:
            self.at = start
            return why, False
        return None, (yield from self.close(marker, why))

    def close(self, marker: str, why: str | None) -> Reading[bool]:
        """The call is over, or malformed: then the text up to the marker is still its own."""
        found = why is not None and (yield from self.until(marker, CHANNEL))
        try:
            arguments = json.loads("".join(self._arguments))
            if isinstance(arguments, dict):
                return found
            why = f"the arguments are a {type(arguments).__name__}"
        except (ValueError, RecursionError) as error:
            why = why or str(error)
        self.give("", CHANNEL, index=self._num_calls - 1, malformed=why)
        return found

    def announce(self, name: str) -> None:
        """A call begins."""
        told = f"{self._salt}\0{self._num_calls}\0{name}".encode("utf-8", "surrogatepass")
        known = self.id_prefix + hashlib.blake2b(told).hexdigest()[: self.id_length]
        self.give("", CHANNEL, index=self._num_calls, id=known, name=name)
        self._num_calls += 1
        self._arguments = []

    def give(self, text: str, channel: str = "content", **data: Any) -> None:
        super().give(text, channel, **data)
        if channel == CHANNEL:
            self._arguments.append(text)

    def value(self, passed: Callable[[str], None]) -> Reading[str | None]:
        """Read a JSON value by its brackets and quotes, or say why it cannot be one."""
        opened: list[str] = []
        while char := (yield from self.peek()):
            if char == '"':
                if not (yield from self.string(passed)):
                    return ENDED
            elif not opened and char not in "{[":
                return (yield from self._scalar(passed))
            else:
                if char in _PAIRS and opened.pop() != _PAIRS[char]:
                    return f"{char!r} closes nothing"
                if char in "{[":
                    opened.append(char)
                self.at += 1
                passed(char)
            if not opened:
                return None
        return ENDED

    def string(self, passed: Callable[[str], None]) -> Reading[bool]:
        """Read a string from quote to quote; False where the answer ends before.

        Line breaks in it, which models write and JSON forbids, are passed on escaped.
        """
        self.at += 1
        passed('"')
        escaped = False
        while char := (yield from self.peek()):
            self.at += 1
            passed(char if char >= " " else json.dumps(char)[1:-1])
            if char == '"' and not escaped:
                return True
            escaped = char == "\\" and not escaped
        return False

    def _scalar(self, passed: Callable[[str], None]) -> Reading[str | None]:
        num = 0
        while (char := (yield from self.peek())).isalnum() or (char and char in "+-."):
            self.at += 1
            passed(char)
            num += 1
        return None if num else "a value was due"


class _Call:
    """The object that is being read."""

    def __init__(self, reader: CallReader, bare: bool) -> None:
        self.reader = reader
        self.bare = bare
        self.name: str | None = None
        self.arguments: list[str] | None = None  # those that came before the name
        self.begun = False

    def begin(self, arguments: str = "") -> None:
        """The arguments begin, or are there."""
        self.arguments = [*(self.arguments or ()), arguments]
        if self.name is not None and not self.begun:
            self.begun = True
            self.reader.announce(self.name)
            self.reader.kept = False
            self.reader.give("".join(self.arguments), CHANNEL)

    def argue(self, text: str) -> None:
        """A part of the arguments."""
        if self.begun:
            self.reader.give(text, CHANNEL)
        elif self.arguments is not None:
            self.arguments.append(text)

    def members(self) -> Reading[str | None]:
        """From brace to brace; why it is no call, or its arguments are none."""
        reader = self.reader
        if not (yield from reader.take("{")):
            return "it is no object"
        while True:
            yield from reader.space()
            if (yield from reader.take("}")):
                return None
            key = yield from self._text()
            if key is None:
                return "a name of a member was due"
            yield from reader.space()
            if not (yield from reader.take(":")):
                return "a colon was due"
            yield from reader.space()
            why = yield from self._member(key)
            if why is not None:
                return why
            yield from reader.space()
            if not (yield from reader.take(",")) and (yield from reader.peek()) != "}":
                return ENDED if reader.ended else "a comma or the end of the object was due"

    def _member(self, key: str) -> Reading[str | None]:
        char = yield from self.reader.peek()
        if key == "name":
            self.name = yield from self._text()
            if not self.name or len(self.name) > MOST_NAME:
                return "its name is none"
            if self.arguments is not None:
                self.begin()
            return None
        if key == "function" and char == "{":
            return (yield from self.members())
        if key in ARGUMENTS:
            return (yield from self._arguments(char))
        if self.bare and key not in ("type", "id", "function"):
            return f"a call has no {key!r}"
        return (yield from self.reader.value(lambda text: None))

    def _arguments(self, char: str) -> Reading[str | None]:
        if self.arguments is not None:
            return "it has arguments twice"
        if char == "{":
            self.begin()
            return (yield from self.reader.value(self.argue))
        parts: list[str] = []
        why = yield from self.reader.value(parts.append)
        if why is not None:
            return why
        given = _loads("".join(parts))
        if given is not None and not isinstance(given, str):
            return f"its arguments are {''.join(parts)[:40]}"
        self.begin(given or "{}")
        return None

    def _text(self) -> Reading[str | None]:
        """A string's text, or None where there is no string."""
        parts: list[str] = []
        if (yield from self.reader.peek()) != '"':
            return None
        if not (yield from self.reader.string(parts.append)):
            return None
        found = _loads("".join(parts))
        return found if isinstance(found, str) else None


def _loads(text: str) -> Any:
    """The value, or something that is neither a text nor nothing."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return ...
