"""Which parser reads a model's answers, by templates in the form that the families publish."""

from __future__ import annotations

import pytest

from llama_core.engine.dialect import choose_dialect
from llama_core.engine.request import Use

LLAMA_31 = "{% if tools %}<|python_tag|>{% endif %}<|start_header_id|>ipython<|end_header_id|>"
LLAMA_32 = "{% if tools %}{'name': function name, 'parameters': …}{% endif %}<|start_header_id|>"
QWEN_3 = "{% if tools %}<tools></tools><tool_call>{% endif %}{% if '</think>' in content %}"
QWEN_CODER = "{% if tools %}<tool_call>\n<function=example_function_name>{% endif %}"
MISTRAL = "{% if tools %}[AVAILABLE_TOOLS]{% endif %}[TOOL_CALLS]"
MAGISTRAL = "[SYSTEM_PROMPT][THINK]…[/THINK]{% if tools %}[AVAILABLE_TOOLS]{% endif %}[TOOL_CALLS]"
R1_DISTILLED = "<\uff5ctool\u2581calls\u2581begin\uff5c>{{ tools }}<think>\\n</think>"
PLAIN = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>{% endfor %}"


@pytest.mark.parametrize(
    ("template", "model_type", "marks", "tools", "reason"),
    [
        (LLAMA_31, "llama", None, "tools-llama", "has <|python_tag|>"),
        (LLAMA_32, "llama", None, "tools-llama", "its architecture is llama"),
        (QWEN_3, "qwen3", ("<think>", "</think>"), "tools-hermes", "has <tool_call>"),
        (QWEN_3, "llama", ("<think>", "</think>"), "tools-hermes", "has <tool_call>"),
        (QWEN_CODER, "qwen3_moe", None, None, "<function=, which no parser here reads"),
        (MISTRAL, "mistral", None, "tools-mistral", "has [TOOL_CALLS]"),
        (MAGISTRAL, "mistral", ("[THINK]", "[/THINK]"), "tools-mistral", "has [TOOL_CALLS]"),
        (R1_DISTILLED, "llama", ("<think>", "</think>"), None, "which no parser here reads"),
        (PLAIN, "qwen2", None, None, "no place for tools"),
        (LLAMA_32, "olmo2", None, None, "no call of a tool that is known here"),
        (None, "llama", None, None, "no chat template"),
    ],
)
def test_the_template_tells(
    template: str | None,
    model_type: str,
    marks: tuple[str, str] | None,
    tools: str | None,
    reason: str,
) -> None:
    found = choose_dialect(template, model_type)
    assert (found.marks, found.tools) == (marks, tools)
    assert reason in found.tools_reason


def test_the_prompt_tells_whether_reasoning_has_begun() -> None:
    dialect = choose_dialect(QWEN_3, "qwen3")
    marks = {"start": "<think>", "end": "</think>"}
    for prompt, begun in (("…<think>\n", True), ("…<think>\n\n</think>\n\n", False), ("…", False)):
        (use,) = dialect.postprocessors(prompt, tools=False)
        assert use == Use("reasoning", {**marks, "begun": begun})
    assert [use.name for use in dialect.postprocessors("…", tools=True, salt="x")] == [
        "reasoning",
        "tools-hermes",
    ]
