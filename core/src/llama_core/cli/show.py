"""`llama show`: what a model is, read off its files without loading it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from llama_core.cli.app import Session
from llama_core.cli.files import NewFile, write_text
from llama_core.cli.loading import complete_model, rewrite_option
from llama_core.cli.output import emit, json_option
from llama_core.cli.plugins import pass_session
from llama_core.cli.progress import progress
from llama_core.contracts.format import ModelFiles
from llama_core.engine import facts as about
from llama_core.engine.finding import find_model, has_architecture, model_name
from llama_core.engine.memory import size
from llama_core.model import dump
from llama_core.model.files import ModelFileError
from llama_core.model.files.finite import REMEDY, numbers_at_fault
from llama_core.model.tokenizer import open_tokenizer


@click.command("show", epilog="Example: llama show ./model --graph")
@click.argument("model", shell_complete=complete_model)
@click.option("--graph", "as_graph", is_flag=True, help="Print its graph, a line a node.")
@click.option("--all", "unfolded", is_flag=True, help="Of the graph, print every layer.")
@click.option("--picture", type=NewFile(), help="Draw it as SVG.")
@click.option("--check", is_flag=True, help="Read all numbers and the tokenizer; NaN is an error.")
@rewrite_option
@json_option
@pass_session
def command(
    session: Session,
    model: str,
    as_graph: bool,
    unfolded: bool,
    picture: Path | None,
    check: bool,
    rewrite: tuple[tuple[str, dict[str, Any]], ...],
    as_json: bool,
) -> None:
    """Say what MODEL is: a folder, a file, hf:org/name, or a model plugin. Reads no tensor, unless
    it is to check them."""
    if picture is not None and picture.suffix.lower() != ".svg":
        raise click.UsageError(f"--picture draws SVG: give a name that ends in .svg, not {picture}")
    if unfolded and not as_graph:
        raise click.UsageError("--all says how --graph is printed: give both")
    plugins = session.plugins
    files = find_model(plugins, model)
    built = None
    if as_graph or picture or rewrite or has_architecture(plugins, files):
        built = about.graph_of(plugins, files, rewrite)
    found = {"name": model_name(model), **about.facts(plugins, files, built)}
    if check:
        if found["tokenizer"] is not None:
            open_tokenizer(files)
        _check(files)
        found["checked"] = True
    if built and as_graph:
        found["graph"] = dump.text(built[0], folded=not unfolded)
    if built and picture:
        write_text(picture, dump.svg(built[0]))
        found["picture"] = str(picture)
    emit(found, as_json, lambda: [found["graph"].rstrip()] if as_graph else _lines(found))


def _check(files: ModelFiles) -> None:
    with progress("reading tensors", len(files.weights)) as done:
        faults = numbers_at_fault(files.weights, done)
    if faults:
        raise ModelFileError(files.path, faults, remedy=REMEDY)


def _lines(found: dict[str, Any]) -> Iterator[str]:
    rows = dict(_rows(found))
    width = max(map(len, rows))
    yield f"{found['name']} ({found['format']}, {found['path']})"
    for name, said in rows.items():
        yield f"  {name:{width}}  {said}"
    for encoding, row in found["encodings"].items():
        tensors, numbers, taken = row["tensors"], row["parameters"], size(row["bytes"])
        yield f"    {encoding:16} {tensors:6} tensors {numbers:>18,} numbers {taken:>12}"
    if found.get("left_over"):
        yield f"  read by nothing: {', '.join(found['left_over'])}"


def _rows(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The facts that are there, in words."""
    if found["architecture"] is None:
        programs = ", ".join(found["programs"]) or "none is installed"
        yield "architecture", f"{found['model_type']}, of which no graph is known here"
        yield "program provider", f"{programs} (asked when the model is run)"
    else:
        yield "architecture", found["architecture"]
    if found.get("rewrites"):
        yield "rewritten by", ", ".join(found["rewrites"])
    yield "parameters", f"{found['parameters']:,}"
    if found["layers"] is not None:
        yield "layers", str(found["layers"])
    for one in found.get("heads", ()):
        yield "heads", f"{one['query']} for queries, {one['key']} for keys, of {one['size']} each"
    if found["hidden_size"] is not None:
        yield "hidden size", str(found["hidden_size"])
    if found["context_length"] is not None:
        windows = "".join(f", some layers {one}" for one in found.get("windows", ()))
        yield "context", f"{found['context_length']:,} tokens{windows}"
    if found["vocab_size"] is not None:
        yield "vocabulary", f"{found['vocab_size']:,} tokens"
    if found.get("kv_bytes_per_token"):
        kv = {kind: size(1000 * each) for kind, each in found["kv_bytes_per_token"].items()}
        yield "1,000 tokens take", ", ".join(f"{said} in {kind}" for kind, said in kv.items())
    yield "tokenizer", found["tokenizer"] or "none"
    yield "chat template", "yes" if found["chat_template"] else "no"
    if found["quantization"]:
        yield "quantized by", found["quantization"]
    if found["generation"]:
        yield "generation", ", ".join(f"{k} {v}" for k, v in found["generation"].items())
    yield "on disk", size(found["disk_bytes"])
    if found.get("checked"):
        yield "numbers", "all read, all finite"
    yield "weights", size(sum(row["bytes"] for row in found["encodings"].values()))
