"""The end of a run: a folder that llama-core and transformers run, with tokenizer and template."""

from __future__ import annotations

import shutil
from pathlib import Path

from llama_core.announce import Announcements
from llama_core.errors import LlamaError
from llama_plugin_train.loop.assembly import Parts
from llama_plugin_train.loop.looking import end_tokens, to_be_shown
from llama_plugin_train.loop.ranks import Ranks
from llama_plugin_train.models.export import save_folder, save_own
from llama_plugin_train.models.names import architecture
from llama_plugin_train.quantize.training import encodings

MODEL = "model"


def export(
    parts: Parts, run: Path, ranks: Ranks, announcements: Announcements, *, average: bool
) -> Path | None:
    """Write the model into the run's folder, in place of an earlier one; None on other ranks."""
    with to_be_shown(parts, average):
        arrays = {f"model/{name}": one for name, one in parts.model.named_parameters()}
        whole = parts.spread.whole(arrays)
    if not ranks.first:
        ranks.wait()
        return None
    model = parts.shape.build()
    model.load_state_dict(
        {name.removeprefix("model/"): one for name, one in whole.items()}, strict=True
    )
    folder, aside = run / MODEL, run / f"{MODEL}.new"
    shutil.rmtree(aside, ignore_errors=True)
    new = aside if folder.exists() else folder
    try:
        architecture(parts.shape)
    except LlamaError as error:
        announcements.note(f"{folder} is for this trainer only: {error}")
        save_own(model, parts.shape, new, tokenizer=parts.encoder.folder)
    else:
        save_folder(
            model,
            parts.shape,
            new,
            tokenizer=parts.encoder.folder,
            generation=_generation(parts),
            encodings=encodings(parts.model),
            announcements=announcements,
        )
    if new != folder:
        shutil.rmtree(folder, ignore_errors=True)
        new.rename(folder)
    ranks.wait()
    return folder


def _generation(parts: Parts) -> dict[str, object]:
    ends = end_tokens(parts.encoder)
    padding = parts.encoder.tokenizer.named.get("pad_token", parts.encoder.document_end)
    return {"eos_token_id": ends if len(ends) > 1 else ends[0], "pad_token_id": padding}
