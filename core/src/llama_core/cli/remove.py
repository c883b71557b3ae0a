"""`llama rm`: a pulled model out of the cache, after asking."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from llama_core.cli.app import Session
from llama_core.cli.loading import complete_model
from llama_core.cli.output import emit, json_option
from llama_core.cli.plugins import pass_session
from llama_core.contracts.model import SPEC as MODEL
from llama_core.engine.memory import size
from llama_core.errors import LlamaError
from llama_core.model.hub import (
    HubSettings,
    Reference,
    list_models,
    parse_reference,
    remove_model,
)


@click.command("rm", epilog="Example: llama rm hf:HuggingFaceTB/SmolLM2-135M --yes")
@click.argument("model", shell_complete=complete_model)
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@pass_session
def command(session: Session, model: str, yes: bool, as_json: bool) -> None:
    """Remove MODEL, which was pulled, with all its files and revisions."""
    _check_is_pulled(session, model)
    reference, settings = parse_reference(model), HubSettings.from_environment()
    if reference.file is not None or reference.revision != "main":
        whole = f"hf:{reference.repo}"
        raise LlamaError(
            f"only the whole of {whole} can be removed, not {model} alone",
            remedy=f"To remove all of its files: llama rm {whole}",
        )
    if not yes:
        _ask(reference, settings)
    freed = remove_model(reference, settings)
    emit(
        {"name": str(reference), "freed_bytes": freed},
        as_json,
        lambda: [f"removed {reference}, {size(freed)}"],
    )


def _check_is_pulled(session: Session, model: str) -> None:
    """Say who else it belongs to where it was not pulled."""
    if model in session.plugins.names(MODEL.kind):
        dist = session.plugins.resolve(MODEL.kind, model).plugin.found.dist
        raise LlamaError(
            f"'{model}' is part of an installed plugin", remedy=f"pip uninstall {dist}"
        )
    if not model.startswith("hf:") and Path(model).exists():
        raise LlamaError(
            f"'{model}' is a path, and only what was pulled is removed",
            remedy="Delete it as you delete other files.",
        )


def _ask(reference: Reference, settings: HubSettings) -> None:
    if not (settings.cache / reference.folder).is_dir():
        return  # there is nothing to lose, and removing says so
    if not sys.stdin.isatty():
        raise click.UsageError(f"to remove {reference} without being asked, give --yes")
    here = {one.name: size(one.num_bytes) for one in list_models(settings)}
    what = here.get(str(reference), "a pull that was interrupted")
    click.confirm(f"Remove {reference} ({what})?", abort=True, err=True)
