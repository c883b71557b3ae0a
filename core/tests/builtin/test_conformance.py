"""The builtins stand under the same contracts as any plugin's capabilities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from llama_core.testing import (
    ArchitectureContract,
    BackendContract,
    DrafterContract,
    FormatContract,
    PostprocessorContract,
    PreprocessorContract,
    RewriteContract,
    SamplerContract,
    StorageContract,
    TransformContract,
)


class TestReference(BackendContract):
    provides = "reference"


class TestGreedy(SamplerContract):
    provides = "greedy"


class TestSample(SamplerContract):
    provides = "sample"


class TestMirostat(SamplerContract):
    provides = "mirostat"


class TestTemperature(TransformContract):
    provides = "temperature"


class TestTopK(TransformContract):
    provides = "top-k"


class TestTopP(TransformContract):
    provides = "top-p"


class TestMinP(TransformContract):
    provides = "min-p"


class TestTypical(TransformContract):
    provides = "typical"


class TestTopNSigma(TransformContract):
    provides = "top-n-sigma"


class TestXTC(TransformContract):
    provides = "xtc"


class TestRepetition(TransformContract):
    provides = "repetition"


class TestPresence(TransformContract):
    provides = "presence"


class TestFrequency(TransformContract):
    provides = "frequency"


class TestDRY(TransformContract):
    provides = "dry"


class TestLogitBias(TransformContract):
    provides = "logit-bias"
    options = ({"bias": {"1": 2.0, "3": -1.5}},)
    vocab_sizes = (17, 32000)


class TestMinLength(TransformContract):
    provides = "min-length"


class TestBadWords(TransformContract):
    provides = "bad-words"
    options = ({"words": [[1], [0, 1]]},)


class TestNoRepeatNgram(TransformContract):
    provides = "no-repeat-ngram"


class TestNgram(DrafterContract):
    provides = "ngram"


class TestChatTemplate(PreprocessorContract):
    provides = "chat-template"
    options = ({"template": "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"},)


class TestSystemPrompt(PreprocessorContract):
    provides = "system-prompt"
    options = ({"text": "Be brief."}, {"text": "Be brief.", "existing": "append"})


class TestReasoning(PostprocessorContract):
    provides = "reasoning"
    options = ({}, {"begun": True}, {"start": "[THINK]", "end": "[/THINK]"})
    expects: ClassVar[Mapping[str, str]] = {"A few words.": "A few words."}


CALL = '{"name": "f", "arguments": {"a": "}"}}'


class TestToolsHermes(PostprocessorContract):
    provides = "tools-hermes"
    expects: ClassVar[Mapping[str, str]] = {f"So\n<tool_call>{CALL}</tool_call>": 'So{"a": "}"}'}


class TestToolsLlama(PostprocessorContract):
    provides = "tools-llama"
    expects: ClassVar[Mapping[str, str]] = {
        CALL: '{"a": "}"}',
        f"<|python_tag|>{CALL}": '{"a": "}"}',
    }


class TestToolsMistral(PostprocessorContract):
    provides = "tools-mistral"
    expects: ClassVar[Mapping[str, str]] = {f"[TOOL_CALLS][{CALL}]": '{"a": "}"}'}


class TestSafetensors(FormatContract):
    provides = "safetensors"


class TestGguf(FormatContract):
    provides = "gguf"
    file_name = "model.gguf"


class TestFuse(RewriteContract):
    provides = "fuse"


class TestAct(RewriteContract):
    provides = "act"
    options = ({"act": "q8:32"},)


class TestReencode(RewriteContract):
    provides = "reencode"
    options = ({"encoding": "q8:g32"},)


class TestAdapters(RewriteContract):
    provides = "adapters"
    options = ({"slots": 2, "rank": 4},)


class TestTensor(RewriteContract):
    provides = "tensor"
    options = ({"rank": 0, "world_size": 2},)


class TestLlama(ArchitectureContract):
    provides = "llama"


class TestFolder(StorageContract):
    provides = "folder"
    options: ClassVar = [{"root": "{folder}"}]

    def damage(self, storage: Any, given: Mapping[str, Any], name: str) -> bool:
        file = storage.root / name
        file.write_bytes(b"~" + file.read_bytes()[1:])
        return True
