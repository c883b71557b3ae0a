"""From what a user types to a model's parts: its files, its graph and weights, its tokenizer.

It asks the plugins for formats, sources and architectures, and the hub's cache for what was pulled;
what runs the model is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from llama_core.contracts.architecture import SPEC as ARCHITECTURE
from llama_core.contracts.format import SPEC as FORMAT
from llama_core.contracts.format import ModelFiles
from llama_core.contracts.model import SPEC as MODEL
from llama_core.errors import ConfigError, did_you_mean, plain, sentence
from llama_core.model.architectures import model_type, text_config, unknown
from llama_core.model.files import open_model
from llama_core.model.files.resolve import HUB
from llama_core.model.graph import Graph
from llama_core.model.tokenizer import Detokenizer, Tokenizer, TokenizerError
from llama_core.model.weights import RenamedWeights
from llama_core.plugins import Plugins


def find_model(plugins: Plugins, reference: str | Path) -> ModelFiles:
    """The files that a path, the id of a pulled model, or the name of a model plugin stands for."""
    if not isinstance(reference, str | Path):
        raise ConfigError(f"a model is named by a text or a path, not {reference!r}")
    formats = {name: plugins.create(FORMAT, name) for name in plugins.names(FORMAT.kind)}
    sources = {
        name: lambda name=name: plugins.create(MODEL, name) for name in plugins.names(MODEL.kind)
    }
    return open_model(reference, formats, sources=sources, pulled=_pulled, known=pulled_names)


def pulled_names() -> list[str]:
    """The models of the hub that are on this machine."""
    from llama_core.model import hub

    return [one.name for one in hub.list_models(hub.HubSettings.from_environment())]


def _pulled(text: str) -> Path:
    from llama_core.model import hub

    try:
        return hub.pulled(text)
    except hub.HubError as error:
        own = hub.parse_reference(text)
        near = did_you_mean(str(own), [one for one in pulled_names() if not one.endswith(own.repo)])
        raise hub.HubError(error.message, remedy=sentence(near, error.remedy)) from None


def model_name(reference: str | Path) -> str:
    """What a model is called in events and answers: a hub id without its prefix, a file's name."""
    text = str(reference)
    if text.startswith(HUB):
        return text.removeprefix(HUB)
    return Path(text).name or Path(text).resolve().name


def has_architecture(plugins: Plugins, files: ModelFiles) -> bool:
    """Whether any plugin, usable or not, says that it builds the graph of this model."""
    kind = model_type(files.config)
    return any(one.provides.name == kind for one in plugins.capabilities(ARCHITECTURE.kind))


def build_model(
    plugins: Plugins, files: ModelFiles, *, context_length: int | None = None
) -> tuple[Graph, RenamedWeights]:
    """The graph of a model's config, and its weights under the graph's names.

    A context length below the one that the model was made for chooses how positions are scaled.
    """
    kind = model_type(files.config)
    if not has_architecture(plugins, files):
        raise unknown(kind, plugins.names(ARCHITECTURE.kind))
    architecture = plugins.create(ARCHITECTURE, kind)
    config: Mapping[str, Any] = text_config(files.config)
    if context_length is not None:
        config = {**config, "context_length": context_length}
    owner = plugins.resolve(ARCHITECTURE.kind, kind).plugin.name
    where = f"architecture {kind}.build"
    with plugins.guard(owner, where):
        graph = architecture.build(config)
        if isinstance(graph, Graph):
            graph.validate()  # here, where an op's shape rule of the plugin's own is its fault too
    if not isinstance(graph, Graph):
        raise plugins.fault(owner, where, f"it gave {plain(repr(graph))}, which is no Graph")
    with plugins.guard(owner, f"architecture {kind}.rename"):
        return graph, RenamedWeights(files.weights, architecture.rename)


def declared_context(config: Mapping[str, Any]) -> int | None:
    """How long a sequence a config says the model was made for, where it says so."""
    found = text_config(config)
    for key in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"):
        value = found.get(key)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None


def check_tokenizer(tokenizer: Tokenizer, vocab_size: int, files: ModelFiles) -> None:
    """Refuse a tokenizer that gives tokens which the model has no row for.

    Tokens that were added later and stand for nothing the model reads (an image's place, say) may
    lie beyond the table: a prompt that holds one is refused when it comes.
    """
    faults = []
    size = tokenizer.core.get_vocab_size(with_added_tokens=False)
    if size > vocab_size:
        faults.append(f"it has {size} tokens, and the model's table has {vocab_size} rows")
    ends = [("begin", tokenizer.bos), *(("end", one) for one in sorted(tokenizer.eos))]
    faults += [
        f"texts {name} with token {one}, and the last row is {vocab_size - 1}"
        for name, one in ends
        if one is not None and one >= vocab_size
    ]
    if faults:
        raise TokenizerError(
            f"the tokenizer of {files.path} does not belong to the model: {'; '.join(faults)}",
            remedy="Put the tokenizer there that the model was trained with.",
        )


class _Decoder:
    """The engine's view of a detokenizer."""

    def __init__(self, tokenizer: Tokenizer, show: Collection[str]) -> None:
        self._text = Detokenizer(tokenizer, show=show)

    def feed(self, token: int) -> str:
        return self._text.push(token)

    def finish(self) -> str:
        return self._text.finish()


class EngineTokenizer:
    """The engine's view of a model's tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer

    def encode(self, text: str) -> Sequence[int]:
        return self.tokenizer.encode(text)

    def decode(self, tokens: Sequence[int]) -> str:
        return self.tokenizer.decode(tokens)

    def stream(self, show: Collection[str] = ()) -> _Decoder:
        return _Decoder(self.tokenizer, show)
