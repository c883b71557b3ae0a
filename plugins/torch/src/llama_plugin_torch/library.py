"""The provider `transformers`: which models it takes, and how one is opened, safely and whole.

A model is judged by its config alone, and opened from a folder on disk by the library's own code:
code that comes with a checkpoint is never run, pickled weights are never read, and tensors that
the checkpoint lacks are an error, where the library would make them up.

transformers and torch are imported when a model is asked about, not before.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_core.announce import Announcements
from llama_core.contracts.step import Plan
from llama_core.errors import ConfigError, LlamaError, did_you_mean, plain, sentence

if TYPE_CHECKING:
    from llama_plugin_torch.library_program import LibraryProgram

INSTALL = 'pip install "llama-plugin-torch[transformers]"'
LISTED = 8  # tensors named before the rest are only counted


class LibraryFailed(LlamaError):
    """transformers could not open a model."""

    code = "transformers_failed"


class TransformersProvider:
    """Opens what transformers can run; no rewrite applies, since there is no graph."""

    name = "transformers"

    def __init__(
        self,
        dtype: str = "auto",
        attention: str = "auto",
        announcements: Announcements | None = None,
    ) -> None:
        self.announcements = announcements or Announcements()
        self._dtype = dtype
        self._attention = attention

    def accepts(self, path: Path, config: Mapping[str, Any]) -> str | None:
        """None where the library runs such a model, otherwise why not."""
        if path.is_file():
            return f"{path.name} is one file, and the library opens folders"
        found = loader(config)
        return None if found in LOADERS else found

    def open(self, path: Path, plan: Plan) -> LibraryProgram:
        path = Path(path)
        config = _read_config(path)
        found = loader(config)
        if found not in LOADERS:
            raise LibraryFailed(f"transformers cannot run {path}: {found}")
        _check_plan(plan)
        from llama_plugin_torch import devices
        from llama_plugin_torch.dtypes import compute_type
        from llama_plugin_torch.library_program import LibraryProgram

        device = devices.of(plan)
        stored = _stored_types(config)
        dtype = compute_type(self._dtype, stored, device)
        model = self._load(found, path, config, dtype).to(device)
        return LibraryProgram(model, plan, device, dtype, self.announcements)

    def _load(self, found: str, path: Path, config: Mapping[str, Any], dtype: Any) -> Any:
        import transformers

        if (path / "adapter_config.json").exists():  # the library would follow it elsewhere
            raise LibraryFailed(
                f"{path} holds an adapter", remedy="Merge it into its model first, and open that."
            )
        try:
            settings = transformers.CONFIG_MAPPING[config["model_type"]].from_dict(_plain(config))
            model_class = _model_class(found, settings)
            takes_sdpa = bool(getattr(model_class, "_supports_sdpa", False))
            automatic = "sdpa" if takes_sdpa else "eager"
            model, about = model_class.from_pretrained(
                path,
                config=settings,
                dtype=dtype,
                attn_implementation=automatic if self._attention == "auto" else self._attention,
                trust_remote_code=False,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
            )
        except Exception as error:  # the library raises whatever it likes
            raise LibraryFailed(
                f"transformers could not open {path}: {type(error).__name__}: {plain(error, 300)}",
                remedy=_remedy(path),
            ) from error
        made_up = sorted(k for k in about["missing_keys"] if ".pooler." not in f".{k}.")
        misshapen = sorted(str(k[0]) for k in about["mismatched_keys"])
        if made_up or misshapen:
            lacking = [*made_up, *misshapen]
            more = f" and {len(lacking) - LISTED} more" if len(lacking) > LISTED else ""
            raise LibraryFailed(
                f"{path} lacks tensors, or has them in other shapes: "
                f"{', '.join(lacking[:LISTED])}{more}",
                remedy="The library would fill them with random numbers; get a whole checkpoint.",
            )
        return model.eval().requires_grad_(False)


LOADERS = ("AutoModelForCausalLM", "AutoModel")
# Keys of a config that name kernels or modules, which the library would fetch and run.
CODE_WORDS = ("attn_implementation", "experts_implementation", "use_kernels", "kernel", "auto_map")


def loader(config: Mapping[str, Any]) -> str:
    """The library's class that loads a model of this config, or why there is none."""
    try:
        import torch  # noqa: F401
        from transformers.models.auto import configuration_auto, modeling_auto
    except (ImportError, OSError) as error:  # OSError: a shared library that does not load
        return f"transformers cannot be imported ({error}); {INSTALL}"
    kind = config.get("model_type")
    known = configuration_auto.CONFIG_MAPPING_NAMES
    if kind is not None and not isinstance(kind, str):
        return f"the config's model_type is {plain(repr(kind))}, and must be a text"
    if kind not in known:
        if config.get("auto_map"):
            return f"model_type {kind!r} needs code from the checkpoint, which is never run"
        near = did_you_mean(str(kind), known)
        return sentence(f"transformers knows no model_type {plain(kind)!r}", near or None)
    if config.get("is_encoder_decoder"):
        return f"{kind} is an encoder and a decoder; only one stack can be run"
    causal = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    bare = modeling_auto.MODEL_MAPPING_NAMES
    masked = modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    named = config.get("architectures")
    names = set(named) if isinstance(named, list) and all(isinstance(n, str) for n in named) else ()
    if not names:
        return LOADERS[0] if kind in causal else f"{kind} is no causal language model"
    if causal.get(kind) in names:
        return LOADERS[0]
    if "vision_config" in config or "audio_config" in config:
        return f"{kind} reads more than text"
    if {bare.get(kind), masked.get(kind)} & set(names):
        return LOADERS[1]
    return f"{', '.join(sorted(names))} of {kind} is neither a causal language model nor a bare one"


def _model_class(found: str, settings: Any) -> Any:
    """The library's class for these settings."""
    import transformers

    model = getattr(transformers, found)._model_mapping[type(settings)]
    return model[0] if isinstance(model, tuple | list) else model


def _plain(config: Any) -> Any:
    """A config without the words by which it could bring in code: ours to choose, or nobody's."""
    if isinstance(config, list):
        return [_plain(each) for each in config]
    if not isinstance(config, dict):
        return config
    return {
        key: _plain(value)
        for key, value in config.items()
        if not key.strip("_").startswith(CODE_WORDS)
    }


def _read_config(path: Path) -> dict[str, Any]:
    file = path / "config.json"
    try:
        config = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise LibraryFailed(
            f"{file} cannot be read: {plain(error)}",
            remedy="Give a folder as transformers saves it.",
        ) from None
    if not isinstance(config, dict):
        raise LibraryFailed(f"{file} holds no table of settings")
    return config


def _stored_types(config: Mapping[str, Any]) -> list[str]:
    """The type that the config says the weights are stored in."""
    names = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
    told = config.get("dtype", config.get("torch_dtype"))
    return [names[told]] if isinstance(told, str) and told in names else ["f32"]


def _check_plan(plan: Plan) -> None:
    """What a plan asks for that only a graph can give."""
    reasons = {
        f"the rewrites {', '.join(plan.rewrites)}": bool(plan.rewrites),
        "adapter slots": plan.adapter_slots > 0,
        f"activations in {plan.act}": plan.act != "none",
        f"rank {plan.rank} of {plan.world_size}": plan.world_size > 1,
    }
    asked = [name for name, is_asked in reasons.items() if is_asked]
    if asked:
        raise ConfigError(
            f"the plan asks for {' and '.join(asked)}, and the provider 'transformers' runs models "
            "without a graph",
            remedy="Use a backend, where the architecture is known.",
        )


def _remedy(path: Path) -> str | None:
    if any(path.glob("*.safetensors")) or not any((*path.glob("*.bin"), *path.glob("*.pt"))):
        return None
    return (
        "Pickled weights can run code and are not read; convert them once where you trust them: "
        "load the model by transformers and call save_pretrained, which writes safetensors."
    )
