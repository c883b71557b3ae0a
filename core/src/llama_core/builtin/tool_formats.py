"""How families of models write calls of tools: where a call begins, and what follows one."""

from __future__ import annotations

from llama_core.builtin.reading import Reading
from llama_core.builtin.tool_call import CHANNEL, MOST_NAME, CallReader


class HermesCalls(CallReader):
    """`<tool_call>{"name": …, "arguments": {…}}</tool_call>`: Hermes, Qwen 2.5 and 3."""

    start, end = "<tool_call>", "</tool_call>"
    markers = (start, end)

    def read(self) -> Reading[None]:
        while (yield from self.until(self.start)):
            before = self.gap
            inside = yield from self.space()
            why, closed = yield from self.call(self.end)
            if why is not None:
                self.give(f"{before}{self.start}{inside}")
                self.give("", malformed=f"no call of a tool: {why}")
                continue
            behind = yield from self.space()
            if not closed and (yield from self.take(self.end)):
                behind = yield from self.space()
            if (yield from self.peek()) not in ("", self.start[0]):
                self.give(behind)


class LlamaCalls(CallReader):
    """`{"name": …, "parameters": {…}}`, several with `;` between: Llama 3.1 to 3.3.

    The object stands behind `<|python_tag|>`, or at the beginning of the answer.
    """

    start = "<|python_tag|>"
    markers = (start,)

    def read(self) -> Reading[None]:
        lead = yield from self.space()
        if (yield from self.peek()) == "{":
            why, marked = yield from self._calls(bare=True)
            if why is not None:
                self.give(lead)
        else:
            self.give(lead)
            marked = False
        while marked or (yield from self.until(self.start)):
            before = self.gap
            inside = yield from self.space()
            why, marked = yield from self._calls(bare=False)
            if why is not None:
                self.give(f"{before}{self.start}{inside}")
                self.give("", malformed=f"no call of a tool: {why}")

    def _calls(self, *, bare: bool) -> Reading[tuple[str | None, bool]]:
        """All that follow each other; of the first it matters whether it is one."""
        why, marked = yield from self.call(self.start, bare=bare)
        while why is None and not marked:
            gap = yield from self.space()
            semicolon = yield from self.take(";")
            inside = yield from self.space()
            if (yield from self.peek()) == "{":
                another, marked = yield from self.call(self.start, bare=bare)
                if another is None:
                    continue
            elif (yield from self.peek()) in ("", self.start[0]) and not semicolon:
                return None, marked
            self.give(gap + ";" * semicolon + inside)
            return None, marked
        return why, marked


class MistralCalls(CallReader):
    """`[TOOL_CALLS][{"name": …, "arguments": {…}}, …]`, or `[TOOL_CALLS]name[ARGS]{…}` each."""

    id_prefix, id_length = "", 9  # its templates refuse others
    start, arguments, call_id = "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"
    markers = (start, arguments, call_id)

    def read(self) -> Reading[None]:
        marked = False
        while marked or (yield from self.until(self.start)):
            before, written = self.gap, self.start
            written += yield from self.space()
            if (yield from self.peek()) == "[":
                why, marked = yield from self._array()
            elif (yield from self.peek()) == "{":
                why, marked = yield from self.call(self.start)
            else:
                why, marked = yield from self._named()
            if why is not None:
                self.give(before + written)
                self.give("", malformed=f"no call of a tool: {why}")

    def _array(self) -> Reading[tuple[str | None, bool]]:
        start, self.at = self.at, self.at + 1
        num_calls = 0
        while True:
            self.kept = num_calls == 0
            yield from self.space()
            if (yield from self.take("]")):
                self.kept = False
                return None, False
            why, marked = yield from self.call(self.start)
            if why is not None and num_calls == 0:
                self.at = start
                return why, False
            if why is not None or marked:
                return None, marked
            num_calls += 1
            yield from self.space()
            yield from self.take(",")

    def _named(self) -> Reading[tuple[str | None, bool]]:
        start, self.kept = self.at, True
        name = yield from self._word()
        if name and (yield from self.take(self.call_id)):
            yield from self._word()  # ours are made by one rule for all families
        yield from self.take(self.arguments)
        yield from self.space()
        begins = (yield from self.peek()) == "{"
        self.kept = False
        if not name or len(name) > MOST_NAME or not begins:
            self.at = start
            return "it has no name" if not name else "it has no arguments", False
        self.announce(name)
        why = yield from self.value(lambda text: self.give(text, CHANNEL))
        return None, (yield from self.close(self.start, why))

    def _word(self) -> Reading[str]:
        found = ""
        while (char := (yield from self.peek())).isalnum() or (char and char in "_-."):
            self.at += 1
            found += char
        return found
