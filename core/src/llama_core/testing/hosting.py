"""The rules of what a host takes in: machines it may run on, commands and routes it offers."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, get_args

import pytest

from llama_core.catalogue import Capability
from llama_core.contracts.machine import MachineFacts
from llama_core.testing.suite import Make, PluginContract
from llama_core.testing.verdict import check
from llama_core.web.keys import KeyScope
from llama_core.web.routes import below

ACCESS = (*get_args(KeyScope), "public")


class MachineContract(PluginContract):
    """What a recognizer of machines must keep to."""

    kind = "machine"
    watchdog_seconds: ClassVar[float] = 10.0

    def test_describe_gives_facts_or_none(self, make: Make) -> None:
        """`describe` gives MachineFacts of plain strings, or None where it knows nothing."""
        found = make().describe()
        if found is None:
            return
        check(isinstance(found, MachineFacts), f"it gave {found!r}. Give MachineFacts, or None.")
        texts = [found.name, *found.facts, *found.facts.values()]
        check(
            found.name and all(isinstance(text, str) for text in texts),
            f"{found!r}: the name, and names and values of facts, must be text.",
        )

    def test_describe_never_raises(self, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without a network, an environment or files to read, it gives an answer all the same."""

        def no(*_: object, **__: object) -> Any:
            raise OSError("there is no network and no such file")

        one = make()
        with monkeypatch.context() as bare:
            for name in list(os.environ):
                bare.delenv(name)
            for owner, name in ((socket.socket, "connect"), (socket, "getaddrinfo"), (io, "open")):
                bare.setattr(owner, name, no)
            bare.setattr("builtins.open", no)
            bare.setattr("pathlib.Path.read_text", no)
            bare.setattr("pathlib.Path.read_bytes", no)
            try:
                one.describe()
                problem = None
            except Exception as error:  # noqa: BLE001 - whatever escapes is the finding
                problem = f"{type(error).__name__}: {error}"
        check(
            problem is None,
            f"describe() raised {problem}. Catch OSError and the like, and give None.",
        )

    def test_describe_says_the_same_again(self, make: Make) -> None:
        """It gives the same facts when asked twice."""
        one = make()
        check(one.describe() == one.describe(), "asked twice it gave two answers. Look once.")

    def test_describe_does_not_hang(self, make: Make) -> None:
        """It answers long before anyone would give up waiting."""
        thread = threading.Thread(target=make().describe, daemon=True)
        thread.start()
        thread.join(self.watchdog_seconds)
        check(
            not thread.is_alive(),
            f"describe() did not answer within {self.watchdog_seconds:g} s. Give every request "
            "a timeout of a second or less.",
        )


class CommandContract(PluginContract):
    """What a command must keep to."""

    kind = "command"

    def test_name_is_the_manifests(self, make: Make) -> None:
        """The command's own name is the one in the manifest, without the group before a dot."""
        name, wanted = make().name, self.provides.rpartition(".")[2]
        check(name == wanted, f"it calls itself {name!r}. Write @click.command({wanted!r}).")

    def test_manifest_has_the_help_line(self, capability: Capability) -> None:
        """The manifest has a summary for the command, which `llama --help` shows unimported."""
        check(
            capability.provides.summary,
            f"add a `summary` to {capability.provides} in plugin.toml.",
        )

    def test_help_works(self, make: Make) -> None:
        """`--help` prints how it is used and exits with 0."""
        code, said = run(make(), "--help")
        check(
            code == 0 and "usage" in said.lower(),
            f"--help ended with {code} and said {said[:200]!r}. Leave it to click.",
        )

    def test_subcommands_have_help(self, make: Make) -> None:
        """Every command below it answers `--help` with 0, and every option has a help text."""
        for path, command in _below(make(), ()):
            code, _ = run(make(), *path, "--help")
            check(code == 0, f"{' '.join(path)} --help ended with {code}. Leave it to click.")
            for each in getattr(command, "params", ()):
                told = getattr(each, "help", None) or each.param_type_name == "argument"
                name = " ".join((self.provides, *path, each.opts[0]))
                check(told, f"{name} has no help text. Say help='...' where it is declared.")

    def test_wrong_use_exits_with_two(self, make: Make) -> None:
        """An option that is not there gives exit code 2 and a line, not a traceback."""
        code, said = run(make(), "--no-such-option")
        check(
            code == 2 and "no-such-option" in said and "Traceback" not in said,
            f"--no-such-option ended with {code} and said {said[-200:]!r}. Leave it to click.",
        )


def run(command: Any, *args: str) -> tuple[int, str]:
    """Run a click command; its exit code, and what it printed."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            command.main(list(args), prog_name="llama command")
        except SystemExit as ended:
            code = ended.code
            return (code if isinstance(code, int) else int(code is not None)), said.getvalue()
    return 0, said.getvalue()


def _below(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, each in getattr(command, "commands", {}).items():
        yield from _below(each, (*path, name))


class RouteContract(PluginContract):
    """What a route must keep to: it is mounted below `path`, with ASGI's `root_path` set to it."""

    kind = "route"
    watchdog_seconds: ClassVar[float] = 10.0

    def test_path_can_be_mounted(self, make: Make) -> None:
        """The path begins with a slash, and is a plain path."""
        path = make().path
        try:
            below(path, "admin")
            fits = "{" not in path and not (path.endswith("/") and path != "/")
        except (AttributeError, ValueError):
            fits = False
        check(fits, f"the path is {path!r}; make it one such as '/v1/dashboard'.")

    def test_scope_is_known(self, make: Make) -> None:
        """The scope is one that a key can have, or public."""
        found = make().scope
        check(found in ACCESS, f"the scope is {found!r}, not one of {', '.join(ACCESS)}.")

    def test_answers_a_request(self, make: Make) -> None:
        """A request gets one whole answer, whatever its path below; none is a server's fault."""
        route = make()
        for path in (route.path, f"{route.path}/no/such/thing", f"{route.path}/%00é"):
            sent = self._run(route, _http(route.path, path), [_REQUEST, _GONE])
            kinds = [message.get("type") for message in sent]
            rest = set(kinds[1:])
            whole = kinds[:1] == ["http.response.start"] and rest == {"http.response.body"}
            check(
                whole and not sent[-1].get("more_body", False),
                f"GET {path} sent {kinds}. Send http.response.start once, then bodies, the last "
                "with more_body false.",
            )
            status = sent[0].get("status")
            check(isinstance(status, int) and status < 500, f"GET {path} gave status {status}.")

    def test_lifespan_is_answered_or_refused(self, make: Make) -> None:
        """`lifespan` is answered start and end, or refused by raising; it never hangs."""
        events = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
        sent = self._run(make(), {"type": "lifespan", "asgi": {"version": "3.0"}}, events)
        kinds = [str(message.get("type")) for message in sent]
        fine = [f"lifespan.{name}.complete" for name in ("startup", "shutdown")]
        check(
            kinds in ([], fine) or sent == [_RAISED],
            f"lifespan sent {kinds}. Answer startup and shutdown with .complete, or raise at once.",
        )

    def test_unknown_scope_type_is_refused(self, make: Make) -> None:
        """A scope of a type it does not know makes it raise; it sends nothing."""
        sent = self._run(make(), {"type": "no-such-type", "path": "/"}, [_GONE])
        check(
            sent == [_RAISED],
            f"it answered a scope of type 'no-such-type' with {sent}. Raise where "
            'scope["type"] is none of those it serves.',
        )

    def _run(self, route: Any, scope: dict[str, Any], events: list[Any]) -> list[Any]:
        """Call the app; what it sent, with a last `_RAISED` where it raised."""
        sent: list[Any] = []
        waiting = iter(events)

        async def receive() -> Any:
            for event in waiting:
                return dict(event)
            return await asyncio.Event().wait()  # nothing more ever comes

        async def send(message: Any) -> None:
            sent.append(message)

        async def call() -> None:
            await asyncio.wait_for(route.app(scope, receive, send), self.watchdog_seconds)

        try:
            asyncio.run(call())
        except TimeoutError:
            check(False, f"the app did not end its {scope['type']} call; it waits for ever.")
        except Exception as error:
            if scope["type"] == "http":
                raise AssertionError(f"GET {scope['path']} must be answered") from error
            sent.append(_RAISED)
        return sent


_RAISED: Mapping[str, Any] = {"type": "raised"}
_REQUEST = {"type": "http.request", "body": b"", "more_body": False}
_GONE = {"type": "http.disconnect"}


def _http(root: str, path: str) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": root.rstrip("/"),
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1:8000")],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
    }
