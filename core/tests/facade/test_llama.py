"""What an application sees of `LlamaGPU`: answers, streams, batches, threads, facts and errors."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from llama_core.engine.faults import InvalidRequest
from llama_core.engine.load import load
from llama_core.engine.request import Limits, Params
from llama_core.errors import LlamaError
from llama_core.events import ModelUnloaded
from llama_core.plugins import Plugins
from llama_core.testing.site import Site
from llama_gpu import LlamaGPU

WATCHDOG_SECONDS = 60.0
TEXTS = ["a", "Once upon a time", "zz top", "0123456789" * 5, "é中", "x y z", "Hello", "."]


@pytest.fixture(scope="module")
def llama(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaGPU]:
    with (
        Site(tmp_path_factory.mktemp("site")).plugins() as plugins,
        LlamaGPU(folder, plugins=plugins) as llama,
    ):
        yield llama


def test_importing_it_imports_nothing_more() -> None:
    code = "import sys, llama_gpu; print([m for m in sys.modules if m[:6] in ('numpy', 'llama_')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['llama_gpu']"
    with pytest.raises(ImportError):
        exec("from llama_gpu import LlamaCPU")


def test_infer_is_the_cores_answer(llama: LlamaGPU, folder: Path, plugins: Plugins) -> None:
    with load(folder, plugins=plugins) as loaded:
        result = loaded.engine.generate(loaded.request("Once", Params(max_tokens=12)))
    assert llama.infer("Once", max_tokens=12) == result.choices[0].text


def test_a_stream_is_the_answer_in_pieces(llama: LlamaGPU) -> None:
    pieces = list(llama.stream_infer("Once", max_tokens=12))
    assert len(pieces) > 1
    assert "".join(pieces) == llama.infer("Once", max_tokens=12)


@pytest.mark.parametrize("chosen", [{}, {"temperature": 1.0, "top_k": 50, "seed": 7}])
def test_a_batch_is_the_answers_alone(llama: LlamaGPU, chosen: dict) -> None:
    alone = [llama.infer(text, max_tokens=8, **chosen) for text in TEXTS]
    assert llama.batch_infer(TEXTS, max_tokens=8, **chosen) == alone
    assert llama.batch_infer(TEXTS, batch_size=3, max_tokens=8, **chosen) == alone
    assert llama.batch_infer([], max_tokens=8) == []


def test_threads_get_the_answers_they_would_get_alone(llama: LlamaGPU) -> None:
    alone = [llama.infer(text, max_tokens=8) for text in TEXTS]
    found: dict[int, list[str]] = {}

    def work(number: int) -> None:
        mine = TEXTS[number:] + TEXTS[:number]
        found[number] = [llama.infer(text, max_tokens=8) for text in mine]

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WATCHDOG_SECONDS)
    assert found == {n: alone[n:] + alone[:n] for n in range(8)}


def test_a_seed_makes_sampling_repeatable(llama: LlamaGPU) -> None:
    one = llama.infer("Once", max_tokens=20, temperature=1.5, top_p=0.99, min_p=0.001, seed=1)
    assert one == llama.infer(
        "Once", max_tokens=20, temperature=1.5, top_p=0.99, min_p=0.001, seed=1
    )
    assert one != llama.infer(
        "Once", max_tokens=20, temperature=1.5, top_p=0.99, min_p=0.001, seed=2
    )


def test_a_stop_text_ends_the_answer(llama: LlamaGPU) -> None:
    whole = llama.infer("Once", max_tokens=12)
    stop = whole[3]
    assert llama.infer("Once", max_tokens=12, stop=stop) == whole[: whole.index(stop)]
    assert llama.infer("Once", max_tokens=12, stop=["nowhere", stop]) == whole[: whole.index(stop)]


def test_leaving_a_stream_cancels_it(llama: LlamaGPU, monkeypatch: pytest.MonkeyPatch) -> None:
    program = llama._loaded.program
    submit = program.submit

    def slow(batch: Any) -> Any:
        time.sleep(0.01)
        return submit(batch)

    monkeypatch.setattr(program, "submit", slow)
    with closing(llama.stream_infer("Once", max_tokens=400)) as pieces:
        next(pieces)
        assert llama.get_memory_usage()["kv"]["used_bytes"] > 0
    end = time.monotonic() + WATCHDOG_SECONDS
    while llama.get_memory_usage()["kv"]["used_bytes"]:
        assert time.monotonic() < end, "its blocks are never given back"
        time.sleep(0.002)
    assert llama._loaded.engine.engine.counters.finished["cancelled"] == 1


def test_what_is_not_said_fits_the_context(folder: Path, plugins: Plugins) -> None:
    with LlamaGPU(folder, plugins=plugins, limits=Limits(max_length=40)) as llama:
        assert len(llama._loaded.tokenizer.encode("x" * 30)) == 30
        result = llama.infer("x" * 30)
        assert result == llama.infer("x" * 30, max_tokens=10)
        with pytest.raises(LlamaError, match="max_tokens must be from 1 to 10"):
            llama.infer("x" * 30, max_tokens=11)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"max_tokens": 0}, "max_tokens must be at least 1, not 0"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": 1, "top_p": 1.5}, "top-p"),
        ({"top_k": 3}, "top_k does nothing at temperature 0"),
        ({"seed": -1}, "seed must be from 0"),
        ({"stop": ""}, "stop must have from 1 to 256 characters"),
        ({"stop": 3}, "stop must be a text or a list of texts, not 3"),
        ({"stop": {"a"}}, "stop must be a text or a list of texts, not {'a'}"),
        ({"temperature": True}, "temperature must be a number, not True"),
        ({"temperature": "1"}, "temperature must be a number, not '1'"),
        ({"top_k": "x"}, "top_k must be a whole number, not 'x'"),
        ({"temperature": 1, "top_k": 2.5}, "top_k must be a whole number, not 2.5"),
        ({"temperature": 1, "top_p": "x"}, "top_p must be a number, not 'x'"),
        ({"temperature": 1, "min_p": False}, "min_p must be a number, not False"),
        ({"repetition_penalty": None}, "repetition_penalty must be a number, not None"),
        ({"stop": ["x"] * 17}, "stop may have at most 16 texts, not 17"),
        ({"stop": ["a", None]}, "stop must be a text, not None"),
        ({"repetition_penalty": 0}, "penalty"),
    ],
)
def test_mistakes_are_named(llama: LlamaGPU, arguments: dict, words: str) -> None:
    with pytest.raises(LlamaError, match=words):
        llama.infer("Once", **arguments)
    with pytest.raises(LlamaError, match=words):
        llama.batch_infer(["Once", "Twice"], **arguments)
    with pytest.raises(LlamaError, match=words):
        list(llama.stream_infer("Once", **arguments))


BIAS = ("logit-bias", {"bias": {"65": 1000}})


def test_capabilities_are_named_with_their_options(llama: LlamaGPU) -> None:
    token = llama._loaded.tokenizer.decode([65])
    assert llama.infer("Once", max_tokens=4, transforms=[BIAS]) == token * 4
    assert llama.batch_infer(["Once"], max_tokens=4, transforms=[BIAS]) == [token * 4]
    mirostat = {"max_tokens": 8, "sampler": ("mirostat", {"tau": 8.0}), "seed": 3}
    drawn = llama.infer("Once", **mirostat)
    assert drawn != llama.infer("Once", max_tokens=8), "a sampler needs no temperature"
    assert drawn == llama.infer("Once", **mirostat)
    cold = llama.infer("Once", **mirostat, temperature=0.01)
    assert cold != drawn, "a temperature holds before a sampler too"
    call = '<tool_call>{"name": "f", "arguments": {}}</tool_call>'
    assert list(llama.stream_infer(call, max_tokens=2, postprocessors=["tools-hermes"]))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"transforms": "dry"}, "transforms must be a list of names, or of pairs"),
        ({"transforms": BIAS}, "transforms must be a list of names, or of pairs"),
        ({"transforms": [3]}, "transforms: a name, or a pair of name and options, is wanted"),
        ({"sampler": {"mirostat": 3}}, "sampler: a name, or a pair"),
        ({"sampler": "mirostatt"}, "Did you mean 'mirostat'"),
        ({"sampler": ("mirostat", {"tua": 3})}, "It takes tau, eta"),
        ({"sampler": "greedy", "top_k": 3}, "top_k does nothing: sampler 'greedy' takes"),
        ({"sampler": "greedy", "temperature": 0.5}, "temperature does nothing: sampler"),
        ({"transforms": ["min-p"]}, "transform 'min-p' does nothing at temperature 0"),
        ({"postprocessors": ["resoning"]}, "Did you mean 'reasoning'"),
        ({"preprocessors": ["chat-template"]}, "'chat-template' is for the messages of a chat"),
    ],
)
def test_what_is_no_capability_is_named(llama: LlamaGPU, arguments: dict, words: str) -> None:
    with pytest.raises(LlamaError, match=words):
        llama.infer("Once", max_tokens=2, **arguments)


def test_a_drafter_is_named_too(folder: Path, plugins: Plugins, llama: LlamaGPU) -> None:
    with LlamaGPU(folder, plugins=plugins, drafter=("ngram", {"shortest": 1})) as quick:
        assert quick.get_backend_info()["drafter"] == "ngram"
        assert quick.infer("abababab", max_tokens=12) == llama.infer("abababab", max_tokens=12)
    assert llama.get_backend_info()["drafter"] is None
    own = plugins.create("drafter", "ngram")
    with LlamaGPU(folder, plugins=plugins, drafter=own) as quick:
        assert quick.get_backend_info()["drafter"] == "NgramLookup"


def test_prompts_must_be_texts(llama: LlamaGPU) -> None:
    with pytest.raises(LlamaError, match="a list of prompts, not one text"):
        llama.batch_infer("Once")
    with pytest.raises(LlamaError, match="a list of prompts, not 7"):
        llama.batch_infer(7)  # type: ignore[arg-type]
    with pytest.raises(LlamaError, match="must be a text, not 7"):
        llama.infer(7)  # type: ignore[arg-type]
    with pytest.raises(LlamaError, match="must be a text, not None"):
        llama.stream_infer(None)  # type: ignore[arg-type]
    with pytest.raises(LlamaError, match="batch_size must be a whole number from 1, not 0"):
        llama.batch_infer(["Once"], 0)
    with pytest.raises(LlamaError, match="no tokens"):
        llama.infer("")


@pytest.mark.parametrize(
    ("bad", "words"), [("", "the prompt has no tokens"), (7, "a prompt must be a text, not 7")]
)
def test_a_bad_prompt_in_a_batch_is_named_in_the_message(
    llama: LlamaGPU, bad: Any, words: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        llama.batch_infer(["Once", "Twice", bad], max_tokens=2)
    assert str(caught.value).startswith(f"prompts[2]: {words}")
    assert caught.value.to_dict()["message"] == caught.value.message
    assert caught.value.param == "prompt"


def test_an_error_that_prompts_share_is_named_of_each(folder: Path, plugins: Plugins) -> None:
    llama = LlamaGPU(folder, plugins=plugins)
    llama.close()
    for _ in range(2):
        with pytest.raises(LlamaError, match=r"^prompts\[0\]: the engine was closed"):
            llama.batch_infer(["Once"])


def test_a_batch_may_come_from_a_generator(llama: LlamaGPU) -> None:
    texts = (text for text in ("Once", "Twice"))
    assert len(llama.batch_infer(texts, max_tokens=2)) == 2


def test_no_stop_is_none(llama: LlamaGPU) -> None:
    assert llama.infer("Once", max_tokens=4, stop=None) == llama.infer("Once", max_tokens=4)
    assert llama.batch_infer(["Once"], max_tokens=4, stop=None) == [
        llama.infer("Once", max_tokens=4)
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"prefer_gpu": "no"}, "prefer_gpu must be True or False, not 'no'"),
        ({"auto_detect_aws": 0}, "auto_detect_aws must be True or False, not 0"),
        ({"rewrite": "act"}, "rewrite must be a list of rewrites.*\"act\".*, not 'act'"),
        ({"rewrite": ["act"]}, "rewrite must be .*, and has 'act'"),
        ({"rewrite": None}, "rewrite must be .*, not None"),
        ({"limits": 3}, "limits must be Limits, not 3"),
        ({"plan": {}}, "plan must be a Plan, not {}"),
    ],
)
def test_what_it_is_made_with_is_checked(
    folder: Path, plugins: Plugins, arguments: dict, words: str
) -> None:
    with pytest.raises(LlamaError, match=words):
        LlamaGPU(folder, plugins=plugins, **arguments)


def test_a_rewrite_is_named_with_its_options(folder: Path, plugins: Plugins) -> None:
    named = [("act", {"act": "q8:32"})]
    with LlamaGPU(folder, plugins=plugins, rewrite=named, act="none") as llama:
        assert any("act" in one for one in llama.get_backend_info()["rewrites"])


def test_what_is_unknown_is_named(folder: Path, plugins: Plugins) -> None:
    with pytest.raises(LlamaError, match="no model is named"):
        LlamaGPU("storys", plugins=plugins)
    with pytest.raises(LlamaError, match="a model is named by a text or a path, not None"):
        LlamaGPU(None, plugins=plugins)  # type: ignore[arg-type]
    with pytest.raises(LlamaError, match="'referense'.*Did you mean 'reference'"):
        LlamaGPU(folder, backend="referense", plugins=plugins)


def test_the_backend_says_why_it_was_chosen(llama: LlamaGPU) -> None:
    info = llama.get_backend_info()
    assert info["backend"] == "reference"
    assert "priority" in info["reason"]
    assert (info["on_gpu"], info["used_devices"]) == (False, ["cpu"])
    assert (info["model"], info["architecture"], info["invariance"]) == ("tiny", "llama", "bitwise")


def test_it_is_closed_once_and_for_all(folder: Path, plugins: Plugins) -> None:
    with LlamaGPU(folder, plugins=plugins) as llama:
        assert llama.infer("Once", max_tokens=2)
    llama.close()
    with pytest.raises(LlamaError, match="closed"):
        llama.infer("Once")


def test_one_that_is_dropped_is_closed(folder: Path, plugins: Plugins) -> None:
    heard = []
    plugins.events.subscribe(ModelUnloaded, lambda event: heard.append(event.model))
    llama = LlamaGPU(folder, plugins=plugins)
    whole = llama.infer("Once", max_tokens=12)
    engine = llama._loaded.engine
    pieces = llama.stream_infer("Once", max_tokens=12)
    del llama
    gc.collect()
    assert "".join(pieces) == whole, "a stream keeps its model"
    del pieces
    gc.collect()
    engine._thread.join(WATCHDOG_SECONDS)
    assert not engine._thread.is_alive()
    assert plugins.events.flush(WATCHDOG_SECONDS)
    assert heard == ["tiny"]


def test_what_is_closed_is_closed_once(folder: Path, plugins: Plugins) -> None:
    heard = []
    plugins.events.subscribe(ModelUnloaded, lambda event: heard.append(event.model))
    llama = LlamaGPU(folder, plugins=plugins)
    llama.close()
    del llama
    gc.collect()
    assert plugins.events.flush(WATCHDOG_SECONDS)
    assert heard == ["tiny"]


FORK = """
import os, signal, sys
from llama_core.errors import LlamaError
from llama_gpu import LlamaGPU
llama = LlamaGPU(sys.argv[1], backend="reference")
before = llama.infer("Once", max_tokens=4)
child = os.fork()
if child == 0:
    signal.alarm(20)  # a child that waits for threads it has not does so for ever
    try:
        llama.infer("Once", max_tokens=4)
    except LlamaError as error:
        print(error, flush=True)
    llama.close()
    os._exit(0)
_, status = os.waitpid(child, 0)
assert llama.infer("Once", max_tokens=4) == before
sys.exit(abs(os.waitstatus_to_exitcode(status)))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
def test_a_forked_child_hears_why_it_gets_no_answer(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORK, folder], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "made before a fork" in done.stdout
    assert "Load the model in the child" in done.stdout


def test_memory_is_measured(llama: LlamaGPU, folder: Path) -> None:
    used = llama.get_memory_usage()
    shard = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    assert 0.9 * shard < used["weights_file_bytes"] <= shard
    layout = llama._loaded.program.kv
    # Two layers, keys and values, two heads of eight numbers in float32.
    assert used["kv"]["total_bytes"] == layout.num_blocks * layout.block_size * 2 * 2 * 2 * 8 * 4
    assert used["kv"]["used_bytes"] == 0
    assert used["devices"] == {"cpu": None}, "the reference does not say how much memory there is"
    if sys.platform == "linux":
        status = Path("/proc/self/status").read_text()
        [kilobytes] = [line.split()[1] for line in status.splitlines() if line[:6] == "VmRSS:"]
        assert used["process_bytes"] == pytest.approx(int(kilobytes) * 1024, rel=0.2)
        assert used["process_peak_bytes"] >= used["process_bytes"]


MODEL = """
from pathlib import Path
from llama_core import hookimpl

class Carried:
    def path(self):
        return Path({path!r})

@hookimpl
def llama_open_model():
    return Carried()
"""


def test_a_model_is_known_by_its_plugins_name(folder: Path, site: Site) -> None:
    provides = [{"kind": "model", "name": "story", "api": 1}]
    code = MODEL.format(path=str(folder))
    site.add("story", {"provides": provides}, {"llama_plugin_story/__init__.py": code})
    with site.plugins() as plugins:
        with LlamaGPU("story", plugins=plugins) as llama:
            assert llama.infer("Once", max_tokens=2)
        with pytest.raises(LlamaError, match="Did you mean 'story'"):
            LlamaGPU("storys", plugins=plugins)


MACHINE = """
from llama_core import hookimpl
from llama_core.contracts.machine import MachineFacts

class Here:
    def __init__(self, name):
        self.name = name
    def describe(self):
        if self.name == "broken":
            raise OSError("no route")
        if self.name == "junk":
            return "a toaster"
        return None if self.name == "elsewhere" else MachineFacts("Toaster 2", {"slots": "2"})

@hookimpl
def llama_create_machine(name):
    return Here(name)
"""


def machines(site: Site, *names: str) -> None:
    provides = [{"kind": "machine", "name": name, "api": 1} for name in names]
    site.add("toaster", {"provides": provides}, {"llama_plugin_toaster/__init__.py": MACHINE})


def test_the_machine_is_asked_for(folder: Path, site: Site) -> None:
    machines(site, "broken", "elsewhere", "toaster")
    with site.plugins() as plugins:
        with LlamaGPU(folder, plugins=plugins) as llama:
            assert llama.get_backend_info()["machine"] == {
                "known": True,
                "name": "Toaster 2",
                "facts": {"slots": "2"},
                "by": "toaster",
            }
        with LlamaGPU(folder, auto_detect_aws=False, plugins=plugins) as llama:
            assert "off" in llama.get_backend_info()["machine"]["reason"]


def test_a_machine_that_is_not_known_says_why(llama: LlamaGPU, folder: Path, site: Site) -> None:
    machine = llama.get_backend_info()["machine"]
    assert machine["known"] is False
    assert "pip install llama-plugin-" in machine["reason"]
    machines(site, "broken", "elsewhere", "junk")
    with site.plugins() as plugins, LlamaGPU(folder, plugins=plugins) as other:
        reason = other.get_backend_info()["machine"]["reason"]
    assert "no route" in reason
    assert "elsewhere: not its kind of machine; junk: no facts" in reason
