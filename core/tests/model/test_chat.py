"""Chat templates: rendered as transformers renders them, and held in when they mean harm."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from llama_core.contracts.format import ModelFiles
from llama_core.model.chat import ChatError, ChatTemplate, chat_template, plain_data
from llama_core.model.chat.budget import Budget
from llama_core.model.tokenizer import Tokenizer
from llama_core.model.weights import DenseWeights

MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": " Hi "},
    {"role": "assistant", "content": "Hello!"},
    {"role": "user", "content": "Bye"},
]
CHATML = """{%- for message in messages %}
    {{- '<|im_start|>' + message['role'] + '\\n' + message.content | trim + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
LLAMA2 = """{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}{% for message in loop_messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}{% if loop.index0 == 0 and system_message != false %}{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"""  # noqa: E501
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"a": ["<é>", 1, None]}}}]
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}


def render(source: str, messages: Any = MESSAGES, **options: Any) -> str:
    return ChatTemplate(source, TOKENS).render(messages, **options)


def test_chatml() -> None:
    assert render(CHATML) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\nHello!<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert not render(CHATML, add_generation_prompt=False).endswith("assistant\n")


def test_llama2() -> None:
    assert render(LLAMA2) == (
        "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\n Hi [/INST] Hello! </s><s>[INST] Bye [/INST]"
    )
    with pytest.raises(ChatError, match="must alternate") as caught:
        render(LLAMA2, MESSAGES[1:3] + MESSAGES[2:])
    assert caught.value.from_template


USED = {
    "{{ tools | tojson }}": '[{"type": "function", "function": {"name": "look", "parameters": '
    '{"a": ["<é>", 1, null]}}}]',
    "{{ tools[0].function.parameters | tojson(indent=1) }}": (
        '{\n "a": [\n  "<é>",\n  1,\n  null\n ]\n}'
    ),
    "{% set ns = namespace(n=1) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}"
    "{{ ns.n }}": "5",
    "{% for m in messages if m.role == 'user' %}{{ loop.index }}/{{ loop.length }}"
    "{{ ',' if not loop.last }}{% endfor %}": "1/2,2/2",
    "{% for m in messages %}{% if loop.index == 3 %}{% break %}{% endif %}{{ m.role[0] }}"
    "{% endfor %}": "su",
    "{% generation %}{{ messages[2].content }}{% endgeneration %}": "Hello!",
    "{{ messages | map(attribute='role') | join(' ') }}": "system user assistant user",
    "{{ messages | selectattr('role', 'equalto', 'user') | list | length }}": "2",
    "{{ (messages | last).content ~ 1 ~ none }}": "Bye1None",
    "{{ 'a,b'.split(',') }}{{ 'x'.join(['1', '2']) }}{{ '%s=%d' % ('a', 2) }}": "['a', 'b']1x2a=2",
    "{{ 'ab'.replace('a', 'c') }}{{ '{}-{}'.format(1, 'b') }}{{ '%05d' | format(7) }}": (
        "cb1-b00007"
    ),
    "{% macro say(x) %}<{{ x }}>{% endmacro %}{{ say('a') }}{{ say(say('b')) }}": "<a><<b>>",
    "{% set x %}a{{ 1 }}{% endset %}{{ x | upper }}{{ x is string }}{{ nothing is defined }}": (
        "A1TrueFalse"
    ),
    "{{ dict(a=1).items() | list }}{{ {'a': 1} | items | list }}{{ range(3) | list }}": (
        "[('a', 1)][('a', 1)][0, 1, 2]"
    ),
    "{{ messages[0].get('tool_calls', 'no') }}{{ enable_thinking }}": "noTrue",
    "{{ strftime_now('%Y') | length }}": "4",
    "a\n{% if true %}\n  b\n{% endif %}\nc": "a\n  b\nc",
    "{% for k, v in {'b': 1, 'a': 2}.items() %}{{ k }}{{ v }}{% endfor %}{{ 'b' in {'b': 1} }}": (
        "b1a2True"
    ),
    "{% for m in messages recursive %}{{ loop.depth }}{% endfor %}": "1111",
}


@pytest.mark.parametrize(("source", "text"), USED.items())
def test_what_templates_use(source: str, text: str) -> None:
    assert render(source, tools=TOOLS, variables={"enable_thinking": True}) == text


def test_a_template_gets_plain_copies_only() -> None:
    class Odd(dict):  # type: ignore[type-arg]
        secret = "x"

    odd = Odd(role="user", content=("a", "b"))
    assert plain_data(odd) == {"role": "user", "content": ["a", "b"]}
    assert type(plain_data(odd)) is dict
    assert render("{{ messages[0].secret is defined }}", [odd]) == "False"
    with pytest.raises(ChatError, match="holds a bytes"):
        render(CHATML, [{"role": "user", "content": b"x"}])
    deep: Any = []
    for _ in range(100):
        deep = [deep]
    with pytest.raises(ChatError, match="nested deeper"):
        render(CHATML, [{"role": "user", "content": deep}])


def test_templates_are_chosen_by_name() -> None:
    from tokenizers import Tokenizer as Core
    from tokenizers import models

    tokenizer = Tokenizer(Core(models.BPE({"<s>": 0}, [])), named={"bos_token": 0})
    named = {"default": "{{ bos_token }}", "tool_use": "tools"}
    files = ModelFiles(
        Path(),
        "t",
        {},
        DenseWeights({}),
        tokenizer={"templates": named},
        chat_template="{{ bos_token }}",
    )
    assert chat_template(files, tokenizer).render([]) == "<s>"
    assert chat_template(files, tokenizer, "tool_use").render([]) == "tools"
    with pytest.raises(ChatError, match=r"named 'rag'.*default, tool_use"):
        chat_template(files, tokenizer, "rag")
    with pytest.raises(ChatError, match="no chat template"):
        chat_template(ModelFiles(Path(), "t", {}, DenseWeights({})), tokenizer)


INJECTIONS = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ messages.__class__.__base__.__subclasses__ }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ joiner.__call__.__globals__ }}",
    "{{ lipsum.__globals__ }}",
    "{{ self.__init__.__globals__ }}",
    "{{ self._TemplateReference__context.environment }}",
    "{{ raise_exception.__globals__ }}",
    "{{ strftime_now.__globals__ }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ namespace(**{'__class__': 1}) }}",
    "{{ dict.__class__ }}",
    "{{ messages.append(1) }}",
    "{{ messages[0].update({'role': 'x'}) }}",
    "{{ messages[0].pop('role') }}",
    "{{ messages.clear() }}",
    "{{ ''|attr('__class__') }}{{ (''|attr('__class__')).x }}",
    "{{ messages|map(attribute='__class__')|list|first.x }}",
    "{{ '{0.__class__}'.format(1) }}",
    "{{ '{0.__class__.__base__}'.format_map({'0': 1}) }}",
    "{{ 'a'.encode().__class__ }}",
    "{{ 'a'.translate({97: 'b'}) }}",
    "{{ (1).to_bytes(4, 'big') }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}",
    "{% extends 'x' %}",
    "{{ open('/etc/passwd') }}",
    "{{ __import__('os') }}",
    "{{ request.application }}",
    "{{ config.items() }}",
    "{{ caller.__globals__ }}{{ caller() }}",
    "{{ loop }}{{ varargs.x.y }}",
    "{{ ''['__cl' ~ 'ass__'].x }}",
    "{{ range.__self__.x }}{{ range(10**9)|list }}",
    "{{ ('x'|e).__html__.__globals__.x }}",
]


@pytest.mark.parametrize("source", INJECTIONS)
def test_injections_reach_nothing(source: str) -> None:
    try:
        text = render(source)
    except ChatError:
        return
    assert "class" not in text
    assert "root:" not in text
    assert "module" not in text


def grown(start: str, step: str, times: int = 99) -> str:
    """A value made of itself again and again."""
    return (
        f"{{% set ns = namespace(a={start}) %}}{{% for i in range({times}) %}}"
        f"{{% set ns.a = {step} %}}{{% endfor %}}"
    )


BOMBS = [
    "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}",
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{{ 'a' * 10**9 }}", "{{ 10**9 * 'a' }}", "{{ [1] * 10**9 }}", "{{ 10**(10**8) }}",
    "{{ 'a' | center(10**9) }}", "{{ 'a'.ljust(10**9) }}", "{{ '\t'.expandtabs(10**9) }}",
    "{{ '%1000000000d' | format(1) }}", "{{ '%*d' % (10**9, 1) }}", "{{ '%.999999999f' % 1 }}",
    "{{ '{:>1000000000}'.format(1) }}", "{{ '{:{}}'.format(1, 10**9) }}",
    grown("'aa'", "ns.a ~ ns.a"), grown("'aa'", "ns.a + ns.a"), grown("[1]", "ns.a + ns.a"),
    grown("'\"'", "ns.a | tojson"), grown("3", "ns.a * ns.a"),
    grown("'%'", "ns.a | urlencode", 99999),
    "{% set ns = namespace(a=[1], b=[1]) %}{% for i in range(99) %}{% set ns.a = [ns.a, ns.a] %}"
    "{% set ns.b = [ns.b, ns.b] %}{% endfor %}{{ ns.a == ns.b }}",
    "{% macro m(n) %}{{ m(n - 1) }}{{ m(n - 1) }}{% endmacro %}{{ m(9) }}",
    "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
    "{% set x = [1, 2] %}{% for i in x recursive %}{{ loop(x) }}{% endfor %}",
    "{% block a %}{{ self.a() }}{{ self.a() }}{% endblock %}",
    "{{ range(99999) | join('a' * 999999) }}",
    "{{ ('a' * 999999).join(range(99999) | map('string')) }}",
    "{{ ('a' * 4000000) | list }}", "{{ ('a ' * 4000000).split() }}",
    "{{ ['a' * 4000000] * 99999 }}",
    "{{ ('a' * 1000) | replace('a', 'b' * 1000000) }}",
    "{{ ('a' * 1000).replace('', 'b' * 1000000) }}",
    "{{ ('\n' * 99999) | indent('a' * 99999) }}", "{{ 'a' | indent(10**9) }}",
    "{{ range(99999) | batch(10**9) | list }}", "{{ 1 | round(10**9) }}",
    "{{ [[[1]]] | tojson(indent=10**9) }}", "{{ strftime_now('%Y' * 1000000) }}",
    "{% set x %}{% for i in range(99999) %}" + "y" * 99_999 + "{% endfor %}{% endset %}",
    "{{ " + "(" * 20_000 + "1" + ")" * 20_000 + " }}", "{{ " + "-" * 50_000 + "1 }}",
    "{% if 1 %}" * 3000 + "{% endif %}" * 3000, "{% for a in 'b' %}" * 30 + "{% endfor %}" * 30,
    "{{ " + "[" * 20_000 + " }}", "{{ " + "1 + " * 20_000 + "1 }}", "x" * 2_000_000,
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(BOMBS)))
def test_bombs_end_within_their_time(number: int) -> None:
    began = time.monotonic()
    with suppress(ChatError):
        assert len(render(BOMBS[number])) < 1000
    assert time.monotonic() - began < 10  # a watchdog at ten times the goal


def test_a_busy_machine_is_not_the_templates_fault() -> None:
    """What counts is the time that the template computed, not the time that passed."""
    budget, used = Budget(seconds=0.02, characters=100), time.thread_time()
    time.sleep(0.05)
    budget.tick()
    while time.thread_time() < used + 0.02:
        pass
    with pytest.raises(ChatError, match=r"computed for more than 0\.02 seconds"):
        budget.tick()


def test_messages_that_are_large_are_no_bombs() -> None:
    messages = [{"role": "user", "content": "word " * 20_000} for _ in range(20)]
    assert len(render(CHATML, messages)) > 1_900_000
    with pytest.raises(ChatError, match="more than 1000000 characters|wanted"):
        render(CHATML, messages, max_characters=1_000_000)


def test_what_is_wrong_with_a_template_is_said_in_one_line() -> None:
    with pytest.raises(ChatError, match=r"fails in line 2: Expected an expression"):
        render("\n{% for %}{% endfor %}")
    with pytest.raises(ChatError, match="division by zero"):
        render("{{ 1 / 0 }}")
    with pytest.raises(ChatError, match="'messages' is undefined|has no element|undefined"):
        render("{{ messages[9].content.x }}")
