"""What a template may call: filters, and the methods of texts, lists and numbers.

Each is known by name. Those that could make something huge of little are checked first; what they
made is accounted for after. Everything that is not listed is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from jinja2.exceptions import SecurityError

from llama_core.model.chat import ChatError
from llama_core.model.chat.budget import MAX_ITEMS, Budget, current

_WIDE = 4096  # the most that a width, an indent or a precision may be
_LONG_FIELD = re.compile(r"\d{4,}|\*|\{[^{}]*\{")

Arguments = tuple[Any, ...]
Check = Callable[[Budget, Any, Arguments, Mapping[str, Any]], None]


def _narrow(budget: Budget, value: Any, args: Arguments, named: Mapping[str, Any]) -> None:
    """No number among the arguments may be a large one."""
    for one in (*args, *named.values()):
        if isinstance(one, (int, float)) and not abs(one) <= _WIDE:
            raise ChatError(f"the chat template asks for a width of {one}")


def _indent(budget: Budget, value: Any, args: Arguments, named: Mapping[str, Any]) -> None:
    _narrow(budget, value, args, named)
    by = named.get("width", args[0] if args else 4)
    width = len(by) if isinstance(by, str) else int(by)
    budget.planned((str(value).count("\n") + 1) * max(width, 0) + len(str(value)))


def _replace(budget: Budget, value: Any, args: Arguments, named: Mapping[str, Any]) -> None:
    texts = [str(one) for one in (*args[:2], *named.values()) if isinstance(one, str)]
    if len(texts) < 2:
        return
    old, new = texts[:2]
    text = str(value)
    budget.planned(len(text) + text.count(old) * len(new))


def _join(budget: Budget, value: Any, args: Arguments, named: Mapping[str, Any]) -> None:
    between = str(named.get("d", args[0] if args else ""))
    if isinstance(value, (str, list, tuple)):
        size = len(value) if isinstance(value, str) else budget.measure(value)
        budget.planned(size + len(between) * len(value))
    else:
        budget.planned(len(between) * MAX_ITEMS if len(between) > _WIDE else 0)


def _format(budget: Budget, value: Any, args: Arguments, named: Mapping[str, Any]) -> None:
    text = str(value)
    check_format(text)
    size = budget.measure([*args, *named.values()])
    budget.planned(len(text) + (text.count("{") + text.count("%")) * size)


def _items(budget: Budget, value: Any, args: Arguments, named: Mapping[str, Any]) -> None:
    """A text would become a list of its characters."""
    _narrow(budget, value, args, named)
    if isinstance(value, str) and len(value) > MAX_ITEMS:
        raise ChatError(f"the chat template wanted a list of {len(value)}")


def _text(budget: Budget, value: Any, args: Arguments, named: Mapping[str, Any]) -> None:
    budget.measure(value)


def _free(budget: Budget, value: Any, args: Arguments, named: Mapping[str, Any]) -> None:
    """Nothing to check: what it makes is at most a few times as large as what it is given."""


def _split(budget: Budget, value: Any, args: Arguments, named: Mapping[str, Any]) -> None:
    text, by = str(value), named.get("sep", args[0] if args else None)
    parts = text.count(by) if isinstance(by, str) and by else len(text) // 2
    if parts > MAX_ITEMS:
        raise ChatError(f"the chat template wanted a list of {parts}")


def _str_join(budget: Budget, value: Any, args: Arguments, named: Mapping[str, Any]) -> None:
    if args and isinstance(args[0], (str, list, tuple)):
        _join(budget, args[0], (value,), {})
    elif len(str(value)) > _WIDE:
        raise ChatError("the chat template joins an unknown number of items by a long text")


def check_format(text: str) -> None:
    """A format may not ask for wide fields, nor take a width from an argument."""
    if _LONG_FIELD.search(text):
        raise ChatError("the chat template formats with a field too wide, or of unknown width")


FILTERS: dict[str, Check] = {
    "center": _narrow, "round": _narrow, "truncate": _narrow, "indent": _indent,
    "replace": _replace, "join": _join, "format": _format, "list": _items, "sort": _items,
    "unique": _items, "batch": _items, "slice": _items, "string": _text, "tojson": _text,
    "escape": _text, "e": _text, "forceescape": _text, "trim": _text, "upper": _text,
    "lower": _text, "title": _text, "capitalize": _text, "urlencode": _text, "striptags": _text,
    "length": _free, "count": _free,
}  # fmt: skip
GONE = ("urlize", "xmlattr", "wordwrap", "pprint", "filesizeformat", "random")

_METHODS: dict[type, dict[str, Check]] = {
    str: {
        **dict.fromkeys(("ljust", "rjust", "center", "zfill", "expandtabs"), _narrow),
        **dict.fromkeys(
            ("strip", "lstrip", "rstrip", "startswith", "endswith", "lower", "upper", "title",
             "capitalize", "casefold", "swapcase", "find", "rfind", "index", "rindex", "count",
             "partition", "rpartition", "removeprefix", "removesuffix", "isdigit", "isalpha",
             "isalnum", "isspace", "isupper", "islower", "isnumeric", "isdecimal", "istitle",
             "isascii", "isidentifier"), _free),
        "split": _split, "rsplit": _split, "splitlines": _split,
        "replace": _replace, "join": _str_join, "format": _format,
    },
    list: dict.fromkeys(("index", "count", "copy"), _free),
    tuple: dict.fromkeys(("index", "count"), _free),
    dict: dict.fromkeys(("keys", "values", "items", "get", "copy"), _free),
    int: dict.fromkeys(("bit_length", "is_integer"), _free),
    float: {"is_integer": _free},
}  # fmt: skip


def check_method(called: Any, args: Arguments, named: Mapping[str, Any]) -> None:
    """Let a method of a plain value through, by its name, or refuse it."""
    owner = getattr(called, "__self__", None)
    if owner is None:
        owner = getattr(getattr(called, "__wrapped__", None), "__self__", None)
    for kind, methods in _METHODS.items():
        if isinstance(owner, kind):
            name = str(getattr(called, "__name__", ""))
            if name not in methods:
                raise SecurityError(f"'{kind.__name__}.{name}' may not be called in a template")
            methods[name](current(), owner, args, named)
            return
    if isinstance(owner, (bytes, bytearray, complex)):
        raise SecurityError("bytes have no place in a template")


def guarded(name: str, filter_: Callable[..., Any]) -> Callable[..., Any]:
    """A filter under its check, its result accounted for."""
    check = FILTERS.get(name, _free)
    passes = hasattr(filter_, "jinja_pass_arg")

    def run(*args: Any, **named: Any) -> Any:
        budget = current()
        budget.tick()
        first = 1 if passes else 0
        check(budget, args[first], args[first + 1 :], named)
        return budget.made(filter_(*args, **named))

    if passes:
        run.jinja_pass_arg = filter_.jinja_pass_arg  # type: ignore[attr-defined]
    return run
