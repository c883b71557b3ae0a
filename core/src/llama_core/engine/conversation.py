"""A conversation with a loaded model: its messages, and the request that each turn becomes.

Messages are as in the chat API; the model's template makes the prompt of them, all of them each
time, and the prefix cache sees to it that only what is new is computed. It knows no terminal.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from llama_core.contracts.postprocessor import Piece, channel, tool_calls
from llama_core.contracts.preprocessor import Prompt
from llama_core.engine.dialect import Dialect, choose_dialect
from llama_core.engine.faults import ContextOverflow
from llama_core.engine.processors import prepare
from llama_core.engine.request import Params, Request, Use
from llama_core.errors import LlamaError
from llama_core.model.architectures import model_type
from llama_core.model.chat import ChatError, chat_template

if TYPE_CHECKING:
    from llama_core.engine.load import Loaded

Message = dict[str, Any]

# Of the context, this part at least is kept for the answer before old turns are left out for it.
ANSWER_SHARE = 4


@dataclass(frozen=True, slots=True)
class Turn:
    """A request, and how many of the oldest turns had to be left out of its prompt."""

    request: Request
    num_left_out: int


class Conversation:
    """Messages to and from a model. After `ask` or `again` comes `heard`, or `undo`."""

    def __init__(
        self,
        loaded: Loaded,
        *,
        template: str | None = None,
        system: str | None = None,
        tools: Sequence[Mapping[str, Any]] = (),
        variables: Mapping[str, Any] | None = None,
        preprocessors: Sequence[Use] = (),
    ) -> None:
        self.loaded = loaded
        self.system = system
        self.tools = tuple(tools)
        self.variables = dict(variables or {})  # what the template offers besides
        self.preprocessors = tuple(preprocessors)  # see the messages before the template does
        self.messages: list[Message] = []
        self.template = template or _template(loaded, bool(self.tools))
        self.dialect: Dialect = choose_dialect(self.template, model_type(loaded.files.config))
        if self.tools and "tools" not in self.template:
            raise LlamaError(
                "the model's chat template has no place for tools",
                remedy="Leave them out, or give a template that has one: --chat-template FILE",
            )

    @property
    def num_turns(self) -> int:
        return sum(message["role"] == "user" for message in self.messages)

    @property
    def open_calls(self) -> list[Mapping[str, Any]]:
        """The calls of tools whose results the model waits for."""
        for num_results, message in enumerate(reversed(self.messages)):
            if message["role"] != "tool":
                return list(message.get("tool_calls") or ())[num_results:]
        return []

    def ask(self, text: str, params: Params) -> Turn:
        """The user says something. Where that cannot be asked, nothing has been said."""
        return self._say({"role": "user", "content": text}, params)

    def result(self, content: str) -> None:
        """What the first of the open calls gave; after the last, `again` lets the model go on."""
        call = self.open_calls[0]
        name = call["function"]["name"]
        said = {"role": "tool", "tool_call_id": call["id"], "name": name, "content": content}
        self.messages.append(said)

    def again(self, params: Params) -> Turn:
        """Ask for another answer to what was said last, instead of the one there is."""
        kept = len(self.messages)
        while kept and self.messages[kept - 1]["role"] == "assistant":
            kept -= 1
        turn = self._turn(self.messages[:kept], params)
        del self.messages[kept:]
        return turn

    def heard(self, pieces: Sequence[Piece]) -> Message:
        """The model's answer, or as much of it as there was."""
        said: Message = {"role": "assistant", "content": channel(pieces, "content")}
        if reasoning := channel(pieces, "reasoning"):
            said["reasoning_content"] = reasoning
        if calls := tool_calls(pieces):
            said["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": _parsed(call.arguments)},
                }
                for call in calls
            ]
        self.messages.append(said)
        return said

    def undo(self) -> bool:
        """Take back the last thing the user said and all that followed; False: there is none."""
        for at in range(len(self.messages) - 1, -1, -1):
            if self.messages[at]["role"] == "user":
                del self.messages[at:]
                return True
        return False

    def _say(self, message: Message, params: Params) -> Turn:
        turn = self._turn([*self.messages, message], params)
        self.messages.append(message)
        return turn

    def _turn(self, messages: Sequence[Message], params: Params) -> Turn:
        """The request, without the oldest turns where they leave too little room for an answer."""
        starts = [n for n, message in enumerate(messages) if message["role"] == "user"]
        length = self.loaded.context_length
        most = length if params.max_tokens is None else params.max_tokens
        reserve = min(most, length // ANSWER_SHARE)
        num_left_out = -1
        for start in [0, *starts[1:]]:
            num_left_out += 1
            prompt = self._prompt(messages[start:])
            tokens = tuple(self.loaded.tokenizer.encode(prompt, add_special=False))
            room = length - len(tokens)
            if room >= reserve:
                break
        if room < 1:
            raise ContextOverflow(
                f"what was said last takes {len(tokens)} tokens, and the context holds {length}",
                remedy="Say it in fewer words"
                + (", or start with a larger --context" if self._may_grow() else ""),
            )
        salt = uuid.uuid4().hex
        uses = self.dialect.postprocessors(prompt, tools=bool(self.tools), salt=salt)
        params = replace(
            params,
            max_tokens=min(most, room),
            # Behind what tells reasoning and calls of tools from the answer.
            postprocessors=(*uses, *params.postprocessors),
        )
        return Turn(Request(salt, tokens, params), num_left_out)

    def _may_grow(self) -> bool:
        """Whether the model was made for more than it was loaded with."""
        most = self.loaded.declared_context
        return most is None or most > self.loaded.context_length

    def _prompt(self, messages: Sequence[Message]) -> str:
        options = {
            "template": self.template,
            "special_tokens": self.loaded.tokenizer.special_tokens,
            "variables": self.variables,
        }
        uses = [*self.preprocessors, Use("chat-template", options, required=True)]
        if self.system is not None:
            uses.insert(0, Use("system-prompt", {"text": self.system}, required=True))
        prompt = Prompt(messages=tuple(messages), tools=self.tools)
        text = prepare(self.loaded.plugins, uses, prompt).text
        if text is None:  # the template shows messages, and somebody took them all
            names = ", ".join(repr(use.name) for use in self.preprocessors)
            raise LlamaError(f"no message was left of the prompt by its preprocessors: {names}")
        return text


def _template(loaded: Loaded, tools: bool) -> str:
    """The model's own; where it has one for the use of tools, that one if there are any."""
    named = loaded.files.tokenizer.get("templates", {})
    name = "tool_use" if tools and "tool_use" in named else None
    try:
        return chat_template(loaded.files, loaded.tokenizer, name).source
    except ChatError as error:
        raise ChatError(
            error.message,
            remedy="Complete texts with `llama run`, or give a template: --chat-template FILE",
        ) from None


def _parsed(arguments: str) -> Any:
    """As an object, which is what templates want; what is none stays a text."""
    try:
        return json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments
