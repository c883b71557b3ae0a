"""Machines, commands and routes."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from typing import Any

import click

from llama_core.contracts.machine import MachineFacts
from specimens.harness import NAME, specimen

_count = itertools.count()


@specimen("machine")
class Laptop:
    def describe(self) -> Any:
        try:
            with open("/etc/hostname") as file:
                return MachineFacts("a laptop", {"host": file.read().strip()})
        except OSError:
            return None


@specimen("machine")
class Unknown(Laptop):
    def describe(self) -> Any:
        return None


@specimen("machine", "test_describe_gives_facts_or_none")
class GivesNumbers(Laptop):
    def describe(self) -> Any:
        return MachineFacts("a laptop", {"cores": 8})  # type: ignore[dict-item]


@specimen("machine", "test_describe_never_raises")
class NeedsHome(Laptop):
    def describe(self) -> Any:
        return MachineFacts(f"the machine of {os.environ['PATH']}")


@specimen("machine", "test_describe_says_the_same_again")
class Counts(Laptop):
    def describe(self) -> Any:
        return MachineFacts(f"number {next(_count)}")


@specimen("machine", "test_describe_does_not_hang", watchdog_seconds=0.1)
class Slow(Laptop):
    def describe(self) -> Any:
        time.sleep(0.2)
        return None


def command(**more: Any) -> click.Group:
    @click.group(NAME, **more)
    def group() -> None:
        """Greets."""

    @group.command()
    @click.argument("who")
    @click.option("--loud", is_flag=True, help="Louder.")
    def greet(who: str, loud: bool) -> None:
        """Greet someone."""

    return group


specimen("command", make=command)


@specimen("command", "test_name_is_the_manifests")
def misnamed() -> Any:
    found = command()
    found.name = "other"
    return found


specimen("command", "test_manifest_has_the_help_line", command, manifest={"summary": None})


@specimen("command", "test_help_works")
def without_help() -> Any:
    class Mute(click.Group):
        def get_help(self, ctx: Any) -> str:
            return ""

    return command(cls=Mute)


@specimen("command", "test_subcommands_have_help")
def unexplained() -> Any:
    found = command()

    @found.command()
    @click.option("--size")
    def more(size: str) -> None:
        """Do more."""

    return found


@specimen("command", "test_wrong_use_exits_with_two")
def lenient() -> Any:
    @click.command(NAME, context_settings={"ignore_unknown_options": True})
    @click.argument("rest", nargs=-1)
    def takes_all(rest: tuple[str, ...]) -> None:
        """Takes whatever comes."""

    return takes_all


@specimen("route")
class Page:
    path = "/v1/page"
    scope = "infer"

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self.lifespan(receive, send)
            return
        if scope["type"] != "http":
            raise ValueError(f"cannot serve {scope['type']}")
        below = scope["path"].removeprefix(scope["root_path"])
        await self.answer(200 if below in ("", "/") else 404, send)

    async def lifespan(self, receive: Any, send: Any) -> None:
        for name in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{name}.complete"})

    async def answer(self, status: int, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"a page", "more_body": True})
        await send({"type": "http.response.body", "body": b""})


@specimen("route")
class WithoutLifespan(Page):
    async def lifespan(self, receive: Any, send: Any) -> None:
        raise ValueError("not served")


@specimen("route", "test_path_can_be_mounted")
class Relative(Page):
    path = "v1/page"


@specimen("route", "test_scope_is_known")
class OwnScope(Page):
    scope = "everyone"


@specimen("route", "test_answers_a_request")
class NeverEnds(Page):
    async def answer(self, status: int, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"", "more_body": True})


@specimen("route", "test_answers_a_request")
class Faulty(Page):
    async def answer(self, status: int, send: Any) -> None:
        await super().answer(500 if status == 404 else status, send)


@specimen("route", "test_lifespan_is_answered_or_refused", watchdog_seconds=0.1)
class WaitsForEver(Page):
    async def lifespan(self, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()


@specimen("route", "test_unknown_scope_type_is_refused")
class AnswersAnything(Page):
    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self.lifespan(receive, send)
        else:
            await self.answer(200, send)
