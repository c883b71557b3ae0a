"""LlamaGPU: a model that answers, from a path or a name, on the best backend that is here.

It decides nothing: `llama_core` finds the files, chooses the backend and says why, and runs all
calls of all threads in one batch. For asyncio use `llama_core.engine.load` itself.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Self
from weakref import finalize

from llama_core.contracts.drafter import Drafter
from llama_core.contracts.rewrite import Rewrite
from llama_core.contracts.step import Plan
from llama_core.engine.faults import InvalidRequest
from llama_core.engine.load import Loaded, load
from llama_core.engine.ranks import Parallel
from llama_core.engine.request import Limits
from llama_core.errors import ConfigError, LlamaError
from llama_core.model.architectures import model_type
from llama_core.plugins import Plugins
from llama_gpu.asking import Asking, Named, of_prompt
from llama_gpu.machine import detect
from llama_gpu.memory import memory_usage


class LlamaGPU:
    """A loaded model. Any number of threads may call it at once; close it, or use it in `with`.

    One that is dropped unclosed is closed in the background.
    """

    def __init__(
        self,
        model: str | Path,
        prefer_gpu: bool = True,
        auto_detect_aws: bool = True,
        *,
        backend: str | None = None,
        rewrite: Sequence[Rewrite | tuple[str, Mapping[str, Any]]] = (),
        parallel: Parallel | None = None,
        plan: Plan | None = None,
        limits: Limits | None = None,
        act: str = "auto",
        drafter: Drafter | Named | None = None,
        plugins: Plugins | None = None,
    ) -> None:
        """Load a folder, a file, `hf:org/name` or a model plugin's name.

        What follows from `backend` to `drafter` is as in `llama_core.engine.load.load`.
        """
        for name, said in (("prefer_gpu", prefer_gpu), ("auto_detect_aws", auto_detect_aws)):
            if not isinstance(said, bool):
                raise ConfigError(f"{name} must be True or False, not {said!r}")
        plugins = Plugins.load() if plugins is None else plugins
        self._prefer_gpu = prefer_gpu
        self._parallel = parallel
        self._loaded: Loaded = load(
            model,
            plugins=plugins,
            backend=backend,
            rewrite=rewrite,
            parallel=parallel,
            plan=plan,
            limits=limits,
            prefer_gpu=prefer_gpu,
            act=act,
            drafter=drafter,
        )
        self._dropped = finalize(self, self._loaded.engine.let_go, self._loaded.close)
        self._dropped.atexit = False  # the end of the process waits for no step
        unasked = {"known": False, "reason": "auto_detect_aws is off"}
        self._machine = detect(plugins) if auto_detect_aws else unasked

    def infer(
        self,
        prompt: str,
        *,
        max_tokens: int | None = None,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        repetition_penalty: float = 1.0,
        seed: int | None = None,
        stop: str | Sequence[str] | None = None,
        transforms: Sequence[Named] = (),
        sampler: Named | None = None,
        preprocessors: Sequence[Named] = (),
        postprocessors: Sequence[Named] = (),
    ) -> str:
        """The model's continuation of a text: up to 256 tokens, unless `max_tokens` is given.

        Transforms, sampler and processors are names of capabilities, or pairs of name and options;
        transforms come behind what the numbers do, and without a processor nothing is answered.
        """
        asking = Asking(
            max_tokens,
            temperature,
            top_k,
            top_p,
            min_p,
            repetition_penalty,
            seed,
            stop,
            transforms,
            sampler,
            preprocessors,
            postprocessors,
        )
        result = self._loaded.engine.generate(asking.request(self._loaded, prompt))
        return result.choices[0].text

    def batch_infer(
        self,
        prompts: Iterable[str],
        batch_size: int = 256,
        *,
        max_tokens: int | None = None,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        repetition_penalty: float = 1.0,
        seed: int | None = None,
        stop: str | Sequence[str] | None = None,
        transforms: Sequence[Named] = (),
        sampler: Named | None = None,
        preprocessors: Sequence[Named] = (),
        postprocessors: Sequence[Named] = (),
    ) -> list[str]:
        """The continuations of many texts, in their order; `batch_size` are under way at a time.

        Each is what `infer` would give. The first error is raised, and says which text it is of.
        """
        if isinstance(prompts, str) or not isinstance(prompts, Iterable):
            given = "one text" if isinstance(prompts, str) else repr(prompts)
            raise InvalidRequest(
                f"batch_infer takes a list of prompts, not {given}",
                param="prompts",
                remedy="Call infer(), or give a list.",
            )
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise InvalidRequest(
                f"batch_size must be a whole number from 1, not {batch_size!r}", param="batch_size"
            )
        asking = Asking(
            max_tokens,
            temperature,
            top_k,
            top_p,
            min_p,
            repetition_penalty,
            seed,
            stop,
            transforms,
            sampler,
            preprocessors,
            postprocessors,
        )
        requests = []
        for number, prompt in enumerate(prompts):
            try:
                requests.append(asking.request(self._loaded, prompt))
            except LlamaError as error:
                raise of_prompt(number, error) from error
        texts = []
        with closing(self._loaded.engine.batch(requests, ahead=batch_size)) as results:
            for number, result in enumerate(results):
                choice = result.choices[0]
                if choice.error is not None:
                    raise of_prompt(number, choice.error)
                texts.append(choice.text)
        return texts

    def stream_infer(
        self,
        prompt: str,
        *,
        max_tokens: int | None = None,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        repetition_penalty: float = 1.0,
        seed: int | None = None,
        stop: str | Sequence[str] | None = None,
        transforms: Sequence[Named] = (),
        sampler: Named | None = None,
        preprocessors: Sequence[Named] = (),
        postprocessors: Sequence[Named] = (),
    ) -> Generator[str]:
        """The same text as `infer`, in pieces as they come. Closing the generator cancels it."""
        asking = Asking(
            max_tokens,
            temperature,
            top_k,
            top_p,
            min_p,
            repetition_penalty,
            seed,
            stop,
            transforms,
            sampler,
            preprocessors,
            postprocessors,
        )
        request = asking.request(self._loaded, prompt)  # now: a mistake is not the reader's

        def pieces() -> Generator[str]:
            with closing(self._loaded.engine.stream(request)) as updates:
                for update in updates:
                    if update.error is not None:
                        raise update.error
                    if update.text:
                        yield update.text

        return pieces()

    def get_backend_info(self) -> dict[str, Any]:
        """Which backend runs the model, why, what was rejected and why, and on what devices."""
        loaded, choice = self._loaded, self._loaded.choice
        devices = [
            {"id": d.id, "kind": d.kind, "name": d.name, "memory_bytes": d.memory_bytes or None}
            for d in choice.devices
        ]
        used = self._parallel.devices if self._parallel else loaded.plan.devices
        return {
            "backend": choice.name,
            "reason": choice.reason,
            "rejected": dict(choice.rejected),
            "devices": devices,
            "used_devices": list(used),
            "on_gpu": any(d["kind"] != "cpu" for d in devices if d["id"] in used),
            "prefer_gpu": self._prefer_gpu,
            "model": loaded.name,
            "architecture": model_type(loaded.files.config),
            "rewrites": [] if loaded.graph is None else list(loaded.graph.rewrites),
            "drafter": loaded.engine.engine.drafting.name or None,
            "parallel": None if self._parallel is None else self._parallel.strategy,
            "invariance": loaded.program.invariance,
            "load_seconds": loaded.load_seconds,
            "machine": self._machine,
            "announcements": list(loaded.plugins.announcements.counts),
        }

    def get_memory_usage(self) -> dict[str, Any]:
        """What process, weights and remembered tokens take, in bytes; None where nobody knows."""
        return memory_usage(self._loaded)

    def close(self) -> None:
        """Give back threads and memory; twice is allowed."""
        self._dropped.detach()
        self._loaded.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
