"""Who may call what: the table of methods and paths, and the scope that each one asks for.

Denies by default: what is not in the table does not exist. It does not know who is calling, nor
which function answers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from llama_core.web.keys import KeyScope
from llama_core.web.refusal import RefusedError

Access = Literal[KeyScope, "public"]
ANY, WEBSOCKET = "*", "WEBSOCKET"

_PLAIN_METHODS = frozenset({"DELETE", "GET", "PATCH", "POST", "PUT"})
_PARAMETER = re.compile(r"\{[A-Za-z_]\w*(:path)?\}")


@dataclass(frozen=True, slots=True)
class Rule:
    """A method (or `WEBSOCKET`, or `ANY` for every HTTP method) on a path, and what it asks for.

    In the path `{name}` stands for one segment, and `{name:path}` for all that is left.
    """

    method: str
    path: str
    access: Access

    def __post_init__(self) -> None:
        if self.access not in get_args(Access):
            raise ValueError(f"{self.path}: no such access: {self.access!r}")
        if self.method != ANY and not self.method.isupper():
            raise ValueError(f"{self.path}: no such method: {self.method!r}")
        literal = _PARAMETER.sub("", self.path)
        if not self.path.startswith("/") or "{" in literal or "}" in literal:
            raise ValueError(f"{self.path!r} is not a path such as /v1/models/{{id}}")
        if ":path}" in self.path.removesuffix(":path}"):
            raise ValueError(f"{self.path}: only what ends the path can be a {{name:path}}")


def below(path: str, access: Access) -> tuple[Rule, ...]:
    """The rules for an application mounted at a path: all its methods and WebSockets."""
    base = path.rstrip("/")
    paths = (base or "/", f"{base}/{{rest:path}}")
    return tuple(Rule(method, p, access) for method in (ANY, WEBSOCKET) for p in paths)


class Routes:
    """The table. Where rules overlap, a caller needs the scopes of all: no order opens a door."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = tuple(rules)
        self._patterns = [(_regex(rule.path), rule) for rule in self.rules]

    def scopes(self, method: str, path: str) -> frozenset[KeyScope]:
        """The scopes needed, none of them where all is public. Refuses what is not in the table."""
        rules = self._on(path)
        matching = [rule for rule in rules if _answers(rule, method)]
        if matching:
            return frozenset(rule.access for rule in matching if rule.access != "public")
        allowed = self.methods(path)
        if allowed and method != WEBSOCKET:
            headers = [(b"allow", ", ".join(allowed).encode())]
            message = "This path does not answer to this method; see the Allow header."
            raise RefusedError(405, "method_not_allowed", message, headers=headers)
        raise RefusedError(404, "not_found", "There is nothing at this path.")

    def methods(self, path: str) -> list[str]:
        """The HTTP methods on a path, for the Allow header and for preflights."""
        methods = {rule.method for rule in self._on(path)} - {WEBSOCKET}
        if ANY in methods:
            methods = methods - {ANY} | _PLAIN_METHODS
        return sorted(methods | {"HEAD"} if "GET" in methods else methods)

    def _on(self, path: str) -> list[Rule]:
        # What a file server or a proxy might read as another path than the table does.
        strange = "//" in path or "\\" in path or not path.isprintable()
        if strange or {".", ".."} & set(path.split("/")):
            return []
        return [rule for regex, rule in self._patterns if regex.fullmatch(path)]


def _answers(rule: Rule, method: str) -> bool:
    if rule.method == ANY:
        return method != WEBSOCKET
    return rule.method == method or (rule.method == "GET" and method == "HEAD")


def _regex(path: str) -> re.Pattern[str]:
    regex, end = "", 0
    for parameter in _PARAMETER.finditer(path):
        regex += re.escape(path[end : parameter.start()]) + (".*" if parameter[1] else "[^/]+")
        end = parameter.end()
    return re.compile(regex + re.escape(path[end:]))
