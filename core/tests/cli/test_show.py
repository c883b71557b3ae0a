"""`llama show`: the facts of a model, its graph and picture, and what does not fit."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from .conftest import Llama, lent


def changed(tiny: Path, to: Path, **config: Any) -> Path:
    """A copy of the model with another config."""
    shutil.copytree(tiny, to)
    old = json.loads((to / "config.json").read_text())
    (to / "config.json").write_text(json.dumps({**old, **config}))
    return to


def test_the_facts_are_those_of_the_files(llama: Llama, tiny: Path) -> None:
    facts = llama("show", str(tiny), "--json").json
    assert facts["architecture"] == "llama"
    assert (facts["layers"], facts["context_length"], facts["vocab_size"]) == (2, 512, 258)
    assert facts["heads"] == [{"query": 4, "key": 2, "size": 8}]
    embed, layer = 258 * 32, 32 * 32 * 2 + 16 * 32 * 2 + 48 * 32 * 3 + 2 * 32
    assert facts["parameters"] == 2 * embed + 2 * layer + 32
    assert facts["encodings"] == {"f32": {"tensors": 21, "parameters": 32_032, "bytes": 4 * 32_032}}
    assert facts["disk_bytes"] == sum(file.stat().st_size for file in tiny.iterdir())
    assert facts["kv_bytes_per_token"] == {"f32": 256, "f16": 128, "q8": 96}
    assert facts["tokenizer"] == "huggingface"
    assert facts["chat_template"] is False


def test_the_summary_says_the_same_in_words(llama: Llama, tiny: Path) -> None:
    done = llama("show", str(tiny))
    assert done.err == ""
    heads = "4 for queries, 2 for keys, of 8 each"
    for words in ("llama", "32,032", "512 tokens", heads, "256.0 kB in f32"):
        assert words in done.out


def test_generation_defaults_template_and_quantizer_are_told(
    llama: Llama, tiny: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny, tmp_path / "other")
    (folder / "generation_config.json").write_text(
        json.dumps({"temperature": 0.6, "transformers_version": "5.0"})
    )
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}")
    facts = llama("show", str(folder), "--json").json
    assert facts["generation"] == {"temperature": 0.6}
    assert facts["chat_template"] is True
    assert "temperature 0.6" in llama("show", str(folder)).out


def test_the_graph_is_folded_unless_all_is_asked_for(llama: Llama, tiny: Path) -> None:
    folded = llama("show", str(tiny), "--graph").out
    assert "layers.0 to 1, 2 alike:" in folded
    assert "layers.1.attn.q_proj" not in folded
    assert "layers.1.attn.q_proj" in llama("show", str(tiny), "--graph", "--all").out
    assert llama("show", str(tiny), "--all").code == 2


def test_the_graph_shows_what_a_rewrite_set(llama: Llama, tiny: Path) -> None:
    assert "act=" not in llama("show", str(tiny), "--graph").out
    out = llama("show", str(tiny), "--graph", "--rewrite", "act:act=q8:32").out
    assert "rewritten by act(q8:32)" in out
    assert out.count("act=q8:32") == 7  # the linears of the one layer shown
    wrong = llama("show", str(tiny), "--rewrite", "act:q8")
    assert wrong.code == 2
    assert "'q8' is no OPTION=VALUE" in wrong.err


def test_the_picture_is_an_svg_of_the_graph(llama: Llama, tiny: Path) -> None:
    done = llama("show", str(tiny), "--picture", "graph.svg", "--json")
    assert done.json["picture"] == "graph.svg"
    drawn = ElementTree.parse(llama.project / "graph.svg").getroot()
    titles = {one.text or "" for one in drawn.iter("{http://www.w3.org/2000/svg}title")}
    assert any(title.startswith("layers.0.attn.q_proj") for title in titles)
    refused = llama("show", str(tiny), "--picture", "no/such/folder.svg")
    assert refused.code == 2
    assert "there is no folder no/such" in refused.err
    assert len(refused.err.splitlines()) == 1


def test_what_is_missing_and_left_over_is_one_error(
    llama: Llama, tiny: Path, tmp_path: Path
) -> None:
    folder = changed(tiny, tmp_path / "more", num_hidden_layers=3, tie_word_embeddings=True)
    done = llama("show", str(folder))
    assert done.code == 1
    assert done.err.count("layers.2.") >= 9
    assert "lm_head.weight is left over" in done.err
    assert len(done.err.splitlines()) == 1


def test_what_is_only_left_over_is_a_fact(llama: Llama, tiny: Path, tmp_path: Path) -> None:
    folder = changed(tiny, tmp_path / "fewer", num_hidden_layers=1)
    done = llama("show", str(folder), "--json")
    assert done.code == 0
    assert len(done.json["left_over"]) == 9
    assert "layers.1.mlp_norm.weight" in llama("show", str(folder)).out


def test_an_unknown_architecture_has_facts_but_no_graph(
    llama: Llama, tiny: Path, tmp_path: Path
) -> None:
    folder = changed(tiny, tmp_path / "lama", model_type="lama")
    facts = llama("show", str(folder), "--json").json
    assert (facts["architecture"], facts["model_type"]) == (None, "lama")
    assert (facts["parameters"], facts["layers"]) == (32_032, 2)
    done = llama("show", str(folder), "--graph")
    assert done.code == 1
    assert "Did you mean 'llama'?" in done.err


@pytest.mark.skipif(sys.platform != "linux", reason="needs sparse files and Linux's accounting")
def test_thirty_gigabytes_are_shown_without_being_read(
    llama: Llama, tiny: Path, tmp_path: Path
) -> None:
    sizes = {"hidden_size": 8192, "intermediate_size": 28_672, "vocab_size": 128_000}
    make = lent("engine/sparse.py").sparse_model
    folder = make(tmp_path / "large", tiny, **sizes, num_hidden_layers=16)
    # The child's own peak: what the parent is told counts this process's memory too.
    code = (
        "import re, sys; from pathlib import Path; from llama_core.cli.app import run;"
        "code = run(sys.argv[1:]); status = Path('/proc/self/status').read_text();"
        "print(re.search(r'VmHWM:\\s*(\\d+) kB', status)[1], file=sys.stderr); sys.exit(code)"
    )
    command = [sys.executable, "-c", code, "show", str(folder), "--json"]
    done = subprocess.run(command, env=llama.env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0
    facts = json.loads(done.stdout)
    assert facts["encodings"]["bf16"]["bytes"] == 2 * facts["parameters"] > 30_000_000_000
    peak = int(done.stderr.splitlines()[-1])
    assert peak < 200_000, f"{peak} kB are more than the interpreter and its libraries"


def test_numbers_that_are_none_are_found_when_asked_for(
    llama: Llama, tiny: Path, tmp_path: Path
) -> None:
    assert "all read, all finite" in llama("show", str(tiny), "--check").out
    assert llama("show", str(tiny), "--check", "--json").json["checked"] is True
    folder = shutil.copytree(tiny, tmp_path / "other")
    file = folder / "model.safetensors"
    data = bytearray(file.read_bytes())
    name, found = next(
        (name, one)
        for name, one in json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]).items()
        if name.endswith("down_proj.weight")
    )
    at = 8 + int.from_bytes(data[:8], "little") + found["data_offsets"][0]
    data[at : at + 8] = bytes.fromhex("0000c07f000080ff")  # a NaN and minus infinity
    file.write_bytes(data)
    assert llama("show", str(folder)).code == 0
    done = llama("show", str(folder), "--check")
    assert done.code == 1
    assert f"'{name}' holds 2 numbers that are NaN or infinite" in done.err
    assert str(folder) in done.err
    assert "Get the model again" in done.err


def test_a_broken_tokenizer_is_found_by_check(llama: Llama, tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(tiny, folder)
    (folder / "tokenizer.json").write_text('{"version": "1.0"}')
    assert llama("show", str(folder)).code == 0
    done = llama("show", str(folder), "--check")
    assert done.code == 1
    assert "tokenizer.json" in done.err
    assert "Take the tokenizer anew" in done.err


def test_a_picture_that_is_no_svg_is_refused(llama: Llama, tiny: Path) -> None:
    done = llama("show", str(tiny), "--picture", "g.png")
    assert done.code == 2
    assert not (llama.project / "g.png").exists()


def test_a_file_that_is_only_called_gguf(llama: Llama, tmp_path: Path) -> None:
    (tmp_path / "text.gguf").write_text("Once upon a time")
    done = llama("show", str(tmp_path / "text.gguf"))
    assert done.code == 1
    assert "its first bytes are no GGUF file's. Take the model anew" in done.err
