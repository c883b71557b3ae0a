"""The schedulers of nano-vllm and vLLM on their own, stepped as the engine's benchmark steps ours.

Runs in the peer's environment and imports nothing of ours. Each gives milliseconds of one decoding
step, planned and brought up to date, by number of sequences; what their engines do besides
(building the batch, sampling, detokenizing) is left out, to their advantage.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

SEQUENCES = (1, 32, 256)
PROMPT = 100
LENGTH = 4096


def timed(step: Callable[[], None], repeats: int) -> list[float]:
    """Milliseconds of a step, all sequences well into their answers."""
    for _ in range(60):
        step()
    samples = []
    for _ in range(repeats):
        began = time.perf_counter()
        for _ in range(20):
            step()
        samples.append((time.perf_counter() - began) / 20 * 1e3)
    return samples


def prompt(number: int) -> list[int]:
    return [1 + (number + i) % 50 for i in range(PROMPT)]


def nano_vllm(repeats: int, source: str) -> dict[int, list[float]]:
    """From a checkout of its repository: the package itself cannot be imported without a GPU."""
    for name in ("nanovllm", "nanovllm.engine"):  # their `__init__` would import flash-attn
        package = sys.modules[name] = ModuleType(name)
        package.__path__ = [str(Path(source, *name.split(".")))]
    sys.modules["nanovllm.config"] = ModuleType("nanovllm.config")
    sys.modules["nanovllm.config"].Config = object  # type: ignore[attr-defined]  a type hint there
    from nanovllm.engine.scheduler import Scheduler  # type: ignore[import-not-found]
    from nanovllm.engine.sequence import Sequence  # type: ignore[import-not-found]
    from nanovllm.sampling_params import SamplingParams  # type: ignore[import-not-found]

    found = {}
    for count in SEQUENCES:
        config = SimpleNamespace(
            max_num_seqs=count,
            max_num_batched_tokens=1024,
            eos=-1,
            kvcache_block_size=256,
            num_kvcache_blocks=256 * 16 + 8,
        )
        scheduler = Scheduler(config)
        for number in range(count):
            scheduler.add(Sequence(prompt(number), SamplingParams(max_tokens=3000)))

        def step(scheduler: Any = scheduler) -> None:
            sequences, is_prefill = scheduler.schedule()
            scheduler.postprocess(sequences, [7] * len(sequences), is_prefill)

        found[count] = timed(step, repeats)
        assert len(scheduler.running) == count
    return found


def vllm(repeats: int) -> dict[int, list[float]]:
    """Its v1 scheduler with prefix caching, for a model of which only the config is there."""
    import torch
    from vllm.config import (  # type: ignore[import-not-found]
        CacheConfig,
        DeviceConfig,
        ModelConfig,
        SchedulerConfig,
        VllmConfig,
    )
    from vllm.sampling_params import SamplingParams  # type: ignore[import-not-found]
    from vllm.utils.hashing import sha256  # type: ignore[import-not-found]
    from vllm.v1.core.kv_cache_utils import (  # type: ignore[import-not-found]
        get_request_block_hasher,
        init_none_hash,
    )
    from vllm.v1.core.sched.scheduler import Scheduler  # type: ignore[import-not-found]
    from vllm.v1.kv_cache_interface import (  # type: ignore[import-not-found]
        FullAttentionSpec,
        KVCacheConfig,
        KVCacheGroupSpec,
    )
    from vllm.v1.outputs import ModelRunnerOutput  # type: ignore[import-not-found]
    from vllm.v1.request import Request  # type: ignore[import-not-found]
    from vllm.v1.structured_output import StructuredOutputManager  # type: ignore[import-not-found]

    init_none_hash(sha256)
    hasher = get_request_block_hasher(16, sha256)
    found = {}
    for count in SEQUENCES:
        config = VllmConfig(
            model_config=ModelConfig(
                model=_config_folder(), skip_tokenizer_init=True, dtype="float32"
            ),
            cache_config=CacheConfig(block_size=16, enable_prefix_caching=True),
            scheduler_config=SchedulerConfig(
                max_num_seqs=count,
                max_num_batched_tokens=1024,
                max_model_len=LENGTH,
                enable_chunked_prefill=True,
                is_encoder_decoder=False,
            ),
            device_config=DeviceConfig("cpu"),
        )
        config.cache_config.num_gpu_blocks = 40_000
        spec = FullAttentionSpec(block_size=16, num_kv_heads=1, head_size=1, dtype=torch.float32)
        memory = KVCacheConfig(40_000, [], [KVCacheGroupSpec(["layer"], spec)])
        manager = StructuredOutputManager(config)
        scheduler = Scheduler(config, memory, manager, 16, log_stats=False)
        for number in range(count):
            asked = SamplingParams(max_tokens=3000, ignore_eos=True, temperature=0)
            request = Request(str(number), prompt(number), asked, None, block_hasher=hasher)
            scheduler.add_request(request)

        def step(scheduler: Any = scheduler) -> None:
            plan = scheduler.schedule()
            names = list(plan.num_scheduled_tokens)
            places = {name: i for i, name in enumerate(names)}
            done = [
                [7] if scheduler.requests[name].num_computed_tokens >= PROMPT else []
                for name in names
            ]
            output = ModelRunnerOutput(names, places, done, None, {}, pooler_output=[])
            scheduler.update_from_output(plan, output)

        found[count] = timed(step, repeats)
        assert len(scheduler.running) == count
    return found


def _config_folder() -> str:
    folder = Path(tempfile.mkdtemp(prefix="vllm-peer-"))
    config = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
        "vocab_size": 64,
        "max_position_embeddings": LENGTH,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


def tell(found: dict[int, list[float]]) -> None:
    """The last line of what a peer prints is ours."""
    print(json.dumps({str(count): samples for count, samples in found.items()}))
