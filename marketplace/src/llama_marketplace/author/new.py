"""`llama plugins new`: a project that conforms from its first minute, for its author to change.

Asks only on a terminal, and only what no flag has said; every answer is a flag.
"""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Any

import click

from llama_core.cli.app import COMMANDS
from llama_core.cli.output import emit, json_option
from llama_marketplace.author import kinds

MOST_LETTERS = 30
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
# As the manifest has it: nothing that a terminal obeys, and nothing that UTF-8 cannot say.
_LINE = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]{1,200}")
_URL = re.compile(r"https://[A-Za-z0-9.-]+(:\d+)?(/[A-Za-z0-9._~/-]*)?")


def plugin_name(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """The name, or why it cannot be one."""
    if value.startswith("llama-plugin-"):
        short = value.removeprefix("llama-plugin-")
        raise click.BadParameter(f"the project is called llama-plugin-NAME; say only {short!r}")
    if not _NAME.fullmatch(value) or len(value) > MOST_LETTERS:
        raise click.BadParameter(
            f"{value!r} is not small letters and digits, in words joined by single hyphens, "
            f"{MOST_LETTERS} at most"
        )
    return value


def _line(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value is not None and not _LINE.fullmatch(value):
        raise click.BadParameter("it must be one line of 1 to 200 characters")
    return value


def _url(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value and not _URL.fullmatch(value):
        raise click.BadParameter("give an address such as https://git.example/me/my-plugin")
    return value


class KindChoice(click.Choice[str]):
    """The templates; `--help` says what each makes."""

    def __init__(self) -> None:
        super().__init__(list(kinds.kinds()))


def _help() -> str:
    rows = "\n".join(f"  {one.name:15} {one.about}" for one in kinds.kinds().values())
    return (
        "Begin a plugin: a project with manifest, code, conformance tests and workflows.\n\n"
        f"\b\nKIND is one of\n{rows}\n\n"
        "NAME is the plugin's: llama-plugin-NAME is the distribution, and NAME what it provides. "
        "Nothing is installed and nothing overwritten."
    )


@click.command("new", help=_help(), epilog="Example: llama plugins new sampler my-sampler")
@click.argument("kind", type=KindChoice(), metavar="KIND")
@click.argument("name", callback=plugin_name)
@click.option(
    "--folder", type=click.Path(path_type=Path), help="Where; ./llama-plugin-NAME otherwise."
)
@click.option("--summary", callback=_line, help="What it does, in one line.")
@click.option("--author", callback=_line, help="Who writes it.")
@click.option("--repository", callback=_url, help="The address of its repository.")
@click.option("-y", "--yes", is_flag=True, help="Ask nothing; take the defaults.")
@json_option
def new(
    kind: str,
    name: str,
    folder: Path | None,
    summary: str | None,
    author: str | None,
    repository: str | None,
    yes: bool,
    as_json: bool,
) -> None:
    from llama_marketplace.author.render import render

    template = kinds.kinds()[kind]
    if template.provides == "command" and name in COMMANDS:
        raise click.BadParameter(f"`llama {name}` is a command of the core", param_hint="NAME")
    asks = not yes and not as_json and on_a_terminal()
    facts: dict[str, Any] = {
        **template.facts,
        "kind": kind,
        "provides": template.provides,
        "name": name,
        "dist": f"llama-plugin-{name}",
        "module": f"llama_plugin_{name.replace('-', '_')}",
        "summary": _answer(summary, "What does it do, in one line?", template.summary, asks, _line),
        "author": _answer(author, "Who writes it?", f"The authors of {name}", asks, _line),
        "repository": _answer(repository, "Where is its repository? (empty: none)", "", asks, _url),
    }
    into = folder or Path(facts["dist"])
    files = render(kind, facts, into)
    steps = [
        f"cd {shlex.quote(str(into))}",
        'pip install -e ".[testing]"',
        "pytest",
        "llama plugins check",
    ]
    emit(
        {"kind": kind, "name": name, "folder": str(into.resolve()), "files": files, "next": steps},
        as_json,
        lambda: [
            f"{into}: {len(files)} files",
            *(f"  {each}" for each in files),
            "Next, in the environment that this llama runs in:",
            *(f"  {each}" for each in steps),
        ],
    )


def on_a_terminal() -> bool:
    """Whether somebody is there to be asked."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def _answer(given: str | None, question: str, default: str, asks: bool, check: Any) -> str:
    if given is not None or not asks:
        return default if given is None else given

    def checked(value: str) -> str:
        return str(check(None, None, value))

    return str(click.prompt(question, default=default, value_proc=checked, show_default=True))
