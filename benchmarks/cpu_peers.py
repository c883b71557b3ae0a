"""The peers of the CPU benchmark, each in its own environment and by its own loop; nothing of ours.

A time has in it what the program does from tokens to the next token: batch, model, greedy choice.
Left out, to their advantage: tokenizing, detokenizing, and making a generator or a context.
"""

from __future__ import annotations

import ctypes
import json
import os
import time
from pathlib import Path
from typing import Any

LONG = 1024  # a context worth keeping on disk


class LlamaCpp:
    """`llama_decode` by the Python binding's low-level calls; greedy by its own sampler."""

    def __init__(self, job: dict[str, Any]) -> None:
        import llama_cpp

        self.lib, self.job, self.contexts = llama_cpp, job, {}
        llama_cpp.llama_backend_init()

    def open(self) -> None:
        lib = self.lib
        self.log = lib.llama_log_callback(lambda level, text, data: None)
        lib.llama_log_set(self.log, ctypes.c_void_p(0))
        parameters = lib.llama_model_default_params()
        parameters.n_gpu_layers = 0
        self.model = lib.llama_model_load_from_file(self.job["path"].encode(), parameters)
        if not self.model:
            raise ValueError(f"llama.cpp does not open {self.job['path']}")
        self.greedy = lib.llama_sampler_init_greedy()

    def context(self, sequences: int) -> Any:
        """One of its own for many sequences, each with a cache of its own, as a server has it."""
        if sequences not in self.contexts:
            parameters = self.lib.llama_context_default_params()
            each = self.job["context"] if sequences == 1 else 256
            parameters.n_ctx, parameters.n_seq_max = each * sequences, sequences
            parameters.n_batch = parameters.n_ubatch = 512
            parameters.n_threads = parameters.n_threads_batch = self.job["threads"]
            self.contexts[sequences] = self.lib.llama_init_from_model(self.model, parameters)
        return self.contexts[sequences]

    def _run(self, context: Any, rows: list[tuple[int, int, int, bool]]) -> list[int]:
        """Token, position, sequence, whether it gives something: the tokens given."""
        batch = self.lib.llama_batch_init(len(rows), 0, 1)
        batch.n_tokens = len(rows)
        for i, (token, position, sequence, gives) in enumerate(rows):
            batch.token[i], batch.pos[i], batch.logits[i] = token, position, gives
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
        status = self.lib.llama_decode(context, batch)
        if status:
            raise ValueError(f"llama_decode gave {status}")
        wanted = [i for i, row in enumerate(rows) if row[3]]
        found = [self.lib.llama_sampler_sample(self.greedy, context, i) for i in wanted]
        self.lib.llama_batch_free(batch)
        return found

    def _clear(self, context: Any) -> None:
        self.lib.llama_memory_clear(self.lib.llama_get_memory(context), True)

    def prefill(self, tokens: list[int]) -> float:
        context = self.context(1)
        self._clear(context)
        began = time.perf_counter()
        for at in range(0, len(tokens), 512):
            rows = [(t, at + i, 0, False) for i, t in enumerate(tokens[at : at + 512])]
            rows[-1] = (*rows[-1][:3], True)
            self._run(context, rows)
        return time.perf_counter() - began

    def decode(self, prompts: list[list[int]], steps: int) -> float:
        context, length = self.context(len(prompts)), len(prompts[0])
        if length >= LONG:
            self._remembered(context, prompts[0])
        else:
            self._clear(context)
            rows = [(t, i, s, False) for s, each in enumerate(prompts) for i, t in enumerate(each)]
            for at in range(0, len(rows), 512):
                part = rows[at : at + 512]
                self._run(context, [*part[:-1], (*part[-1][:3], True)])
        last = [each[-1] for each in prompts]
        began = time.perf_counter()
        for step in range(steps):
            last = self._run(context, [(t, length + step, s, True) for s, t in enumerate(last)])
        return (time.perf_counter() - began) / steps

    def _remembered(self, context: Any, prompt: list[int]) -> None:
        """A long prompt, computed once and then read from disk: only what follows it is timed. What
        it says does not matter to the time, so all files of a shape share it."""
        path = Path(self.job["path"]).with_name(f"llama.cpp.{len(prompt)}.state")
        room = (ctypes.c_int * len(prompt))(*prompt)
        count = ctypes.c_size_t(0)
        self._clear(context)
        if path.is_file() and self.lib.llama_state_seq_load_file(
            context, str(path).encode(), 0, room, len(prompt), ctypes.byref(count)
        ):
            return
        self.prefill(prompt)
        self.lib.llama_state_seq_save_file(context, str(path).encode(), 0, room, len(prompt))


class OnnxRuntime:
    """A `Generator` of onnxruntime-genai: `append_tokens`, then `generate_next_token`."""

    def __init__(self, job: dict[str, Any]) -> None:
        import numpy
        import onnxruntime_genai

        self.np, self.lib, self.job = numpy, onnxruntime_genai, job

    def open(self) -> None:
        config = self.lib.Config(self.job["path"])
        session = {"session_options": {"intra_op_num_threads": self.job["threads"]}}
        config.overlay(json.dumps({"model": {"decoder": session}}))
        self.model = self.lib.Model(config)

    def _generator(self, prompts: list[list[int]], steps: int) -> tuple[Any, Any]:
        longest = len(prompts[0]) + steps + 1
        parameters = self.lib.GeneratorParams(self.model)
        parameters.set_search_options(
            max_length=longest, min_length=longest, batch_size=len(prompts), do_sample=False
        )
        ids = self.np.array(prompts, self.np.int32)
        return self.lib.Generator(self.model, parameters), ids if len(prompts) > 1 else ids[0]

    def prefill(self, tokens: list[int]) -> float:
        generator, ids = self._generator([tokens], 1)
        began = time.perf_counter()
        generator.append_tokens(ids)
        generator.generate_next_token()
        return time.perf_counter() - began

    def decode(self, prompts: list[list[int]], steps: int) -> float:
        generator, ids = self._generator(prompts, steps + 1)
        generator.append_tokens(ids)
        generator.generate_next_token()
        began = time.perf_counter()
        for _ in range(steps):
            generator.generate_next_token()
        return (time.perf_counter() - began) / steps


class OpenVino:
    """`LLMPipeline.generate` of openvino-genai, timed by a streamer at each token."""

    def __init__(self, job: dict[str, Any]) -> None:
        import numpy
        import openvino
        import openvino_genai

        self.np, self.ov, self.lib, self.job = numpy, openvino, openvino_genai, job

    def open(self) -> None:
        more = {"INFERENCE_NUM_THREADS": self.job["threads"], **self.job.get("properties", {})}
        self.pipe = self.lib.LLMPipeline(self.job["path"], "CPU", **more)

    def _generate(self, prompts: list[list[int]], count: int) -> list[float]:
        """When each token of the answers came, in seconds after the call."""
        config = self.lib.GenerationConfig()
        config.max_new_tokens, config.ignore_eos, config.do_sample = count, True, False
        ids = self.np.array(prompts, self.np.int64)
        inputs = self.lib.TokenizedInputs(
            self.ov.Tensor(ids), self.ov.Tensor(self.np.ones_like(ids))
        )
        began = time.perf_counter()
        raw = self.pipe.generate(inputs, config).perf_metrics.raw_metrics
        ended = time.perf_counter() - began
        took = [float(each) / 1e6 for each in raw.m_durations]
        first = [float(each) / 1e6 for each in raw.m_times_to_first_token]
        if count == 1 or not took:
            return [first[0] if first else ended]
        return [first[0], *took]

    def prefill(self, tokens: list[int]) -> float:
        return self._generate([tokens], 1)[0]

    def decode(self, prompts: list[list[int]], steps: int) -> float:
        return sum(self._generate(prompts, steps + 1)[1:]) / steps


class CTranslate2:
    """`Generator.generate_batch` of CTranslate2, timed by its callback at each token."""

    def __init__(self, job: dict[str, Any]) -> None:
        import ctranslate2

        self.lib, self.job = ctranslate2, job

    def open(self) -> None:
        path = Path(self.job["path"])
        self.model = self.lib.Generator(
            str(path), device="cpu", compute_type="int8", intra_threads=self.job["threads"]
        )
        self.words = json.loads((path / "vocabulary.json").read_text("utf-8"))

    def _generate(self, prompts: list[list[int]], count: int) -> list[float]:
        stamps: list[float] = []

        def heard(step: Any) -> bool:
            if step.batch_id == 0:
                stamps.append(time.perf_counter())
            return False

        texts = [[self.words[token] for token in each] for each in prompts]
        began = time.perf_counter()
        self.model.generate_batch(
            texts, max_length=count, min_length=count, beam_size=1, sampling_topk=1,
            include_prompt_in_result=False, callback=heard, max_batch_size=0,
        )  # fmt: skip
        return [stamp - began for stamp in stamps]

    def prefill(self, tokens: list[int]) -> float:
        return self._generate([tokens], 1)[0]

    def decode(self, prompts: list[list[int]], steps: int) -> float:
        stamps = self._generate(prompts, steps + 1)
        return (stamps[-1] - stamps[0]) / (len(stamps) - 1)


class Transformers:
    """`generate` of transformers in bfloat16, timed by a logits processor at each token."""

    def __init__(self, job: dict[str, Any]) -> None:
        import torch
        import transformers

        torch.set_num_threads(job["threads"])
        self.torch, self.lib, self.job = torch, transformers, job

    def open(self) -> None:
        self.model = self.lib.AutoModelForCausalLM.from_pretrained(
            self.job["path"], dtype=self.torch.bfloat16
        ).eval()

    def _generate(self, prompts: list[list[int]], count: int) -> list[float]:
        stamps: list[float] = []

        def heard(ids: Any, scores: Any) -> Any:
            stamps.append(time.perf_counter())
            return scores

        ids = self.torch.tensor(prompts)
        began = time.perf_counter()
        with self.torch.inference_mode():
            self.model.generate(
                ids, attention_mask=self.torch.ones_like(ids), do_sample=False, pad_token_id=1,
                max_new_tokens=count, min_new_tokens=count, logits_processor=[heard],
            )  # fmt: skip
        return [stamp - began for stamp in stamps]

    def prefill(self, tokens: list[int]) -> float:
        return self._generate([tokens], 1)[0]

    def decode(self, prompts: list[list[int]], steps: int) -> float:
        stamps = self._generate(prompts, steps + 1)
        return (stamps[-1] - stamps[0]) / (len(stamps) - 1)


SIDES = {
    "llama.cpp": LlamaCpp,
    "onnxruntime-genai": OnnxRuntime,
    "openvino-genai": OpenVino,
    "ctranslate2": CTranslate2,
    "transformers": Transformers,
}
os.environ.setdefault("HF_HUB_OFFLINE", "1")
