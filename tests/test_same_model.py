"""The small trained model says the same from its folder and from GGUF files, on every backend."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from llama_core import Plugins
from llama_core.contracts.format import SPEC as FORMAT
from llama_core.engine.load import Loaded, load
from llama_core.engine.request import Params, Request
from llama_core.model.files import open_model

TINY = Path(__file__).parent / "fixtures" / "tiny"
STEPS = 64
# What it has learned, so that a model that is read wrongly cannot be read wrongly alike everywhere.
KNOWN = {
    "The opposite of hot is": " cold",
    "7 + 8 =": " 15.",
    "After Monday comes": " Tuesday, then Wednesday.",
    "Leo sees a black owl in the": " tree. The black owl says hoo",
}
UNKNOWN = ("", "Caf\u00e9 \u4e2d\u6587 \U0001f642", "  two  spaces\n\nand\ttabs 0123")
BACKENDS = ("reference", "cpu", "torch")


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    return Plugins.load()


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory, plugins: Plugins) -> dict[str, Path]:
    """The model as it is stored, and as the file that a user would convert it to."""
    formats = {name: plugins.create(FORMAT, name) for name in plugins.names(FORMAT.kind)}
    file = tmp_path_factory.mktemp("same") / "tiny.gguf"
    formats["gguf"].save(open_model(TINY, formats), file)
    return {"folder": TINY, "gguf": file}


@pytest.fixture(scope="module", params=BACKENDS)
def loader(request: pytest.FixtureRequest, plugins: Plugins) -> Callable[[Path], Loaded]:
    if request.param == "torch" and find_spec("llama_plugin_torch") is None:
        pytest.skip("torch is not installed")
    return lambda path: load(path, plugins=plugins, backend=request.param)


@pytest.fixture(scope="module")
def models(loader: Callable[[Path], Loaded], paths: dict[str, Path]) -> Iterator[dict[str, Loaded]]:
    made = {name: loader(path) for name, path in paths.items()}
    yield made
    for one in made.values():
        one.close()


def ask(loaded: Loaded, text: str) -> tuple[list[int], list[int], str]:
    """Tokens in, greedy tokens out, and their text."""
    prompt = list(loaded.tokenizer.encode(text))
    params = Params(max_tokens=STEPS, ignore_eos=True)
    choice = loaded.engine.generate(Request(text or "empty", tuple(prompt), params)).choices[0]
    assert len(choice.tokens) == STEPS
    return prompt, choice.tokens, choice.text


@pytest.mark.parametrize("text", [*KNOWN, *UNKNOWN])
def test_folder_and_file_say_the_same(models: dict[str, Loaded], text: str) -> None:
    said = {name: ask(loaded, text) for name, loaded in models.items()}
    assert said["gguf"] == said["folder"]


@pytest.mark.parametrize("text", KNOWN)
def test_it_says_what_it_was_taught(models: dict[str, Loaded], text: str) -> None:
    assert ask(models["gguf"], text)[2].startswith(KNOWN[text])


@pytest.mark.parametrize(
    ("backend", "act", "found"),
    [("cpu", "auto", "q8:32"), ("cpu", "none", "none"), ("reference", "auto", "none")],
)
def test_coded_weights_get_8_bit_activations_where_that_is_faster(
    plugins: Plugins, backend: str, act: str, found: str
) -> None:
    coded = [("reencode", {"encoding": "q8:g32", "skip": []})]
    with load(TINY, plugins=plugins, backend=backend, rewrite=coded, act=act) as loaded:
        assert loaded.plan.act == found
        assert ask(loaded, "7 + 8 =")[2].startswith(KNOWN["7 + 8 ="])
