"""How a model writes down its reasoning and its calls of tools, and which parser reads that.

The chat template tells, since it shows the model its own earlier answers; the architecture decides
only where a template offers tools and shows no call.
"""

from __future__ import annotations

from dataclasses import dataclass

from llama_core.engine.request import Use

REASONING = (("<think>", "</think>"), ("[THINK]", "[/THINK]"))
# mark in a template -> parser, whose calls it begins; the first that is found counts
TOOLS = (
    ("[TOOL_CALLS]", "tools-mistral"),
    ("<|python_tag|>", "tools-llama"),
    ("<tool_call>", "tools-hermes"),
)
# marks of ways to write calls that no parser here reads
FOREIGN = (
    "<function=", "<\uff5ctool", "<|tool_call|>", "<|tool_calls", "<arg_key>", "<|channel|>",
    "functools[", "<|START_ACTION|>",
)  # fmt: skip
FAMILIES = {
    "llama": "tools-llama",
    "mistral": "tools-mistral",
    "mixtral": "tools-mistral",
    "qwen2": "tools-hermes",
    "qwen3": "tools-hermes",
    "qwen3_moe": "tools-hermes",
}


@dataclass(frozen=True, slots=True)
class Dialect:
    """What reads a model's answers, and why; the names are of postprocessors."""

    marks: tuple[str, str] | None  # around its reasoning
    marks_reason: str
    tools: str | None
    tools_reason: str

    def postprocessors(self, prompt: str, *, tools: bool, salt: str = "") -> tuple[Use, ...]:
        """For one request: its prompt may have opened the reasoning, `salt` makes its calls' ids
        its own."""
        uses = []
        if self.marks is not None:
            start, end = self.marks
            begun = prompt.rstrip().endswith(start)
            uses.append(Use("reasoning", {"start": start, "end": end, "begun": begun}))
        if tools and self.tools is not None:
            uses.append(Use(self.tools, {"salt": salt}))
        return tuple(uses)


def choose_dialect(template: str | None, model_type: str) -> Dialect:
    """What fits a model, by its chat template and the `model_type` of its config."""
    if template is None:
        return Dialect(None, "it has no chat template", None, "it has no chat template")
    marks = next((pair for pair in REASONING if pair[1] in template), None)
    why = f"its chat template has {marks[1]}" if marks else "its chat template marks no reasoning"
    return Dialect(marks, why, *_tools(template, model_type))


def _tools(template: str, model_type: str) -> tuple[str | None, str]:
    foreign = next((mark for mark in FOREIGN if mark in template), None)
    if foreign is not None:
        return None, f"its chat template has {foreign}, which no parser here reads"
    for mark, parser in TOOLS:
        if mark in template:
            return parser, f"its chat template has {mark}"
    if "tools" not in template:
        return None, "its chat template has no place for tools"
    if model_type in FAMILIES:
        return FAMILIES[model_type], (
            f"its chat template shows no call of a tool, and its architecture is {model_type}"
        )
    return None, "its chat template shows no call of a tool that is known here"
