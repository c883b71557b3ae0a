"""The sandbox that chat templates run in: Jinja's immutable one, with a budget on everything.

Jinja's own sandbox keeps a template from reaching objects; it lets it run for ever and grow without
end. So loops, calls, filters, operators and output are all led through the budget. The helpers are
those that transformers offers to the same templates.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from jinja2 import TemplateError, ext, nodes
from jinja2.exceptions import SecurityError
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from llama_core.model.chat import ChatError
from llama_core.model.chat.budget import Budget, current, spending
from llama_core.model.chat.guards import GONE, check_format, check_method, guarded

MAX_TEMPLATE = 1 << 17
_COUNTED, _MADE, _SPENT = "_counted", "_made", "_spent"


class CompiledTemplate:
    """A template ready to be rendered by many threads."""

    def __init__(self, source: str) -> None:
        if len(source) > MAX_TEMPLATE:
            raise ChatError(
                f"the chat template has {len(source)} characters; at most {MAX_TEMPLATE} are read"
            )
        try:
            self._template = _Environment().from_string(source)
        except ChatError:
            raise
        except Exception as error:  # noqa: BLE001  (what a hostile program raises is its own)
            raise _wrong(error) from None

    def render(self, seen: Mapping[str, Any], max_seconds: float, max_characters: int) -> str:
        """The whole text, or the one error of it."""
        made: list[str] = []
        length = 0
        with spending(Budget(max_seconds, max_characters)) as budget:
            try:
                for piece in self._template.generate(seen):
                    length += len(piece)
                    budget.planned(length)
                    made.append(piece)
            except _Refused as error:
                raise ChatError(str(error)[:1000], from_template=True) from None
            except ChatError:
                raise
            except Exception as error:  # noqa: BLE001  (as above)
                raise _wrong(error) from None
        return "".join(made)


def _wrong(error: BaseException) -> ChatError:
    line = getattr(error, "lineno", None)
    where = f" in line {line}" if isinstance(line, int) else ""
    why = str(error)[:300] or type(error).__name__
    return ChatError(f"the chat template fails{where}: {why}")


class _Refused(TemplateError):
    """The template's own complaint, by `raise_exception`."""


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(["*", "**", "+", "%"])

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,  # nothing is computed while compiling, outside the budget
            cache_size=0,
            extensions=[_Generation, ext.loopcontrols],
            finalize=_finalize,
        )
        kept = {name: f for name, f in self.filters.items() if name not in GONE}
        kept["tojson"] = _tojson
        self.filters = {name: guarded(name, f) for name, f in kept.items()}
        self.filters |= {_COUNTED: _Counted, _MADE: _made, _SPENT: _spent}
        self.globals = {
            **{name: self.globals[name] for name in ("range", "cycler", "joiner")},
            "dict": _Dict(),
            "namespace": _Namespace,
            "raise_exception": _raise_exception,
            "strftime_now": _strftime_now,
        }

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        _instrument(tree)
        return tree

    def call(self, context: Any, called: Any, /, *args: Any, **kwargs: Any) -> Any:
        current().tick()
        check_method(called, args, kwargs)
        return current().made(super().call(context, called, *args, **kwargs))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        budget = current()
        for one, other in ((left, right), (right, left)):
            if operator == "*" and isinstance(one, (str, list, tuple)) and isinstance(other, int):
                budget.planned(len(one) * max(other, 0))
        if operator == "**" and isinstance(left, int) and isinstance(right, int):
            budget.planned(left.bit_length() * abs(right))
        if operator == "%" and isinstance(left, str):
            check_format(left)
            budget.planned(len(left) + left.count("%") * budget.measure(right))
        return budget.made(super().call_binop(context, operator, left, right))


def _instrument(node: nodes.Node) -> None:
    """Lead loops, values put together and every piece of fixed text through the budget."""
    for child in node.iter_child_nodes():
        _instrument(child)
    for field, value in list(node.iter_fields()):
        if isinstance(value, nodes.Node) and _grows(value):
            setattr(node, field, _filtered(value, _MADE, node))
        elif isinstance(value, list):
            for index, item in enumerate(value):
                if isinstance(item, nodes.Node) and _grows(item):
                    value[index] = _filtered(item, _MADE, node)
    if isinstance(node, nodes.For):
        node.iter = _filtered(node.iter, _COUNTED, node)
    elif isinstance(node, nodes.Output):
        length = sum(len(n.data) for n in node.nodes if isinstance(n, nodes.TemplateData))
        if length:
            fixed = nodes.Const(length, lineno=node.lineno, environment=node.environment)
            node.nodes.insert(0, _filtered(fixed, _SPENT, node))


def _grows(node: nodes.Node) -> bool:
    """Whether an expression puts values together without being intercepted by the sandbox."""
    if isinstance(node, (nodes.List, nodes.Dict)):
        return any(not isinstance(child, nodes.Const) for child in node.iter_child_nodes())
    if isinstance(node, nodes.Tuple):
        return node.ctx == "load" and bool(node.items)
    return isinstance(node, nodes.Concat)


def _filtered(inner: Any, name: str, near: nodes.Node) -> nodes.Filter:
    return nodes.Filter(
        inner, name, [], [], None, None, lineno=near.lineno, environment=near.environment
    )


class _Counted:
    """What a loop goes over, noticing the time at each step."""

    def __init__(self, inner: Iterable[Any]) -> None:
        self._inner = inner

    def __iter__(self) -> Iterator[Any]:
        budget = current()
        for item in self._inner:
            budget.tick()
            yield item

    def __len__(self) -> int:
        return len(self._inner)  # type: ignore[arg-type]


def _made(value: Any) -> Any:
    return current().made(value)


def _spent(length: int) -> str:
    current().spend(length)
    return ""


def _finalize(value: Any) -> Any:
    budget = current()
    if isinstance(value, str):
        budget.spend(len(value))
        return value
    budget.measure(value)
    text = str(value)
    budget.spend(len(text))
    return text


def _tojson(
    x: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """As transformers has it: Jinja's own would escape HTML."""
    if isinstance(indent, (int, str)) and (len(indent) if isinstance(indent, str) else indent) > 16:
        raise ChatError("the chat template indents JSON by more than 16")
    encoder = json.JSONEncoder(
        ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )
    if indent is None and separators is None:
        return encoder.encode(x)
    # What stands between the values is the template's, and may be far longer than they are.
    made, length = [], 0
    for piece in encoder.iterencode(x):
        length += len(piece)
        current().planned(length)
        made.append(piece)
    return "".join(made)


def _raise_exception(message: object) -> None:
    raise _Refused(str(message))


def _strftime_now(form: str) -> str:
    if len(form) > 256:
        raise ChatError("the chat template formats the time at great length")
    return datetime.now().strftime(form)


class _Dict:
    """`dict(...)` and `dict.fromkeys(...)`, without the class behind them."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, keys: Iterable[Any], value: Any = None) -> dict[Any, Any]:
        return dict.fromkeys(keys, value)


class _Namespace(Namespace):
    """Jinja's namespace, without names that begin with an underscore."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, args = args[0], args[1:]
        attrs = dict(*args, **kwargs)
        for name in attrs:
            _Namespace._check(name)
        Namespace.__init__(self, attrs)

    def __setitem__(self, name: str, value: Any) -> None:
        _Namespace._check(name)
        Namespace.__setitem__(self, name, value)

    @staticmethod
    def _check(name: object) -> None:
        if isinstance(name, str) and name.startswith("_"):
            raise SecurityError(f"a namespace has no '{name}'")


class _Generation(ext.Extension):
    """`{% generation %}…{% endgeneration %}` marks what the model wrote; here it is only text."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)
