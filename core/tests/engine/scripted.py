"""A model that says what a test wants: each token has one successor, so an answer is a script.

Which script is told depends on the chat template, which ends the prompt with the token that the
script begins with. Attention and feed-forward give zero; what remains is embedding and head.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from llama_core.builtin.safetensors_format import SafetensorsFormat
from llama_core.contracts.format import ModelFiles
from llama_core.model import architectures
from llama_core.model.weights import DenseWeights

END = "<|end|>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>", "<|tool|>")
MARKS = ("<think>", "</think>")  # special: no text has them unless a parser asks
CALL = ('<tool_call>{"name": "look', '_up", "arguments": {"of', '": "sky"}}</tool', "_call>")

# the token that the prompt ends with -> the tokens of the answer; "…" begins it anew, for ever
SCRIPTS: Mapping[str, Sequence[str]] = {
    "<|hello|>": ("Hel", "lo the", "re."),
    "<|more|>": ("We spoke ", "before."),
    "<|brief|>": ("As told, ", "briefly."),
    "<|think|>": ("<think>", "Hmm, let ", "me see.", "</think>", "\n\nIt is ", "42."),
    "<|count|>": ("one ", "two ", "three ", "…"),
    "<|call|>": ("Wait. ", *CALL),
    "<|after|>": ("The sky ", "is blue."),
    "<|rude|>": ("\x1b[31m", "red"),
}

TEMPLATE = """\
{%- if tools %}<tool_call>{% endif -%}
{%- for m in messages %}<|{{ m.role }}|>{{ m.content }}
{%- for call in m.tool_calls or [] %}<tool_call>{{ call.function | tojson }}</tool_call>{% endfor %}
<|end|>{% endfor -%}
{%- set last = messages[-1].content -%}
{%- if messages[-1].role == 'tool' %}<|after|>
{%- elif 'think' in last %}<|think|>
{%- elif 'count' in last %}<|count|>
{%- elif 'call' in last %}<|call|>
{%- elif 'rude' in last %}<|rude|>
{%- elif messages[0].role == 'system' %}<|brief|>
{%- elif messages | length > 1 %}<|more|>
{%- else %}<|hello|>{% endif -%}
{#- </think> -#}
"""


def scripted_model(
    folder: Path,
    *,
    template: str | None = TEMPLATE,
    generation: Mapping[str, Any] | None = None,
    context: int = 4096,
) -> Path:
    """Write it; gives the folder."""
    tokenizer = _tokenizer()
    size = -(-tokenizer.get_vocab_size() // 8) * 8
    config = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": size,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "vocab_size": size,
        "max_position_embeddings": context,
        "rms_norm_eps": 1e-5,
        "eos_token_id": tokenizer.token_to_id(END),
        "tie_word_embeddings": False,
    }
    graph = architectures.create("llama").build(config)
    arrays = {name: np.zeros(shape, np.float32) for name, shape in graph.shapes.items()}
    for name, array in arrays.items():
        if name.endswith("norm.weight"):
            array[:] = 1
        elif name.startswith("embed"):
            array[:] = np.eye(size)
        elif name.startswith("lm_head"):
            for token, follower in _successors(tokenizer).items():
                array[follower, token] = 1
    source = folder.parent / f"{folder.name}-source"
    source.mkdir(parents=True)
    tokenizer.save(str(source / "tokenizer.json"))
    (source / "tokenizer_config.json").write_text(json.dumps({"eos_token": END}))
    files = ModelFiles(
        path=source,
        format="safetensors",
        config=config,
        weights=DenseWeights(arrays),
        tokenizer={"kind": "huggingface", "path": str(source / "tokenizer.json"), "config": {}},
    )
    SafetensorsFormat().save(files, folder)
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    if generation is not None:
        (folder / "generation_config.json").write_text(json.dumps(generation))
    return folder


def _tokenizer() -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: n for n, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([END, *ROLES, *SCRIPTS, *MARKS])
    words = dict.fromkeys(word for script in SCRIPTS.values() for word in script if word != "…")
    tokenizer.add_tokens([AddedToken(w, normalized=False) for w in words if w not in MARKS])
    return tokenizer


def _successors(tokenizer: Tokenizer) -> dict[int, int]:
    found = {}
    for start, script in SCRIPTS.items():
        words = [start, *script, END]
        if "…" in script:
            words = [start, *script[:-1], script[0]]
        ids = [tokenizer.token_to_id(word) for word in words]
        found |= dict(pairwise(ids))
    return found
