"""What architectures read from a `config.json`: names, types, defaults and bounds.

A config is checked here, all mistakes listed in one error, so that architectures may trust what
they are given. The words are Hugging Face's. One key is our own: `context_length`, how long the
sequences will be that the model is asked for, by default as long as it was made for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    ValidationError,
    model_validator,
)

from llama_core.errors import ConfigError
from llama_core.model import rope
from llama_core.model.graph import FrozenMap

# Bounds that no real model comes near; they keep a hostile file from costing time or memory.
Size = Annotated[int, Field(gt=0, le=1 << 24)]
Count = Annotated[int, Field(gt=0, le=1 << 12)]
Layers = Annotated[int, Field(gt=0, le=1 << 10)]
Length = Annotated[int, Field(gt=0, le=1 << 31)]

MOST_STRETCHED = 1 << 16

Fn = Literal["silu", "gelu", "gelu_tanh", "relu"]
ACTIVATIONS: dict[str, Fn] = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}


@dataclass(frozen=True, slots=True)
class Rope:
    """One way of turning heads by position, in the words of the `rope` op."""

    theta: float
    rotary_dim: int
    scaling: FrozenMap[Any]


class TextConfig(BaseModel):
    """What all architectures share. Each adds its own keys and defaults."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    vocab_size: Size
    hidden_size: Size
    intermediate_size: Size
    num_hidden_layers: Layers
    num_attention_heads: Count
    num_key_value_heads: Count | None = None
    head_dim: Size | None = None
    hidden_act: str = "silu"
    max_position_embeddings: Length = 2048
    context_length: Length | None = None
    rms_norm_eps: PositiveFloat = 1e-6
    tie_word_embeddings: bool = False
    attention_bias: bool = False
    sliding_window: Length | None = None
    layer_types: list[str] | None = None
    rope_theta: PositiveFloat | None = None
    rope_scaling: dict[str, Any] | None = None
    rope_parameters: dict[str, Any] | None = None
    partial_rotary_factor: Annotated[float, Field(gt=0, le=1)] = 1.0
    original_max_position_embeddings: Length | None = None

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Where null means nothing of its own, as in most of what transformers writes."""
        fields = cls.model_fields
        return {
            key: value
            for key, value in given.items()
            if value is not None or key not in fields or _may_be_null(fields[key].annotation)
        }

    def slides(self, layer: int, otherwise: bool) -> bool:
        """Whether a layer looks through the window: as `layer_types` says, where it is given."""
        if self.layer_types is None:
            return otherwise
        return self.layer_types[layer] == "sliding_attention"

    @property
    def context(self) -> int:
        """How many positions there are: as asked for, or as far as the model and its rope reach.

        Two scalings reach beyond the length that the config tells, which is what they start from.
        """
        if self.context_length is not None:
            return self.context_length
        given = self._given_rope
        kind = given.get("rope_type") or given.get("type")
        trained = self._original(given) if kind == "yarn" else self.max_position_embeddings
        factor = _factor(given) if kind in ("dynamic", "yarn") else None
        return max(self.max_position_embeddings, int(trained * (factor or 1)))

    @property
    def num_kv_heads(self) -> int:
        return self.num_key_value_heads or self.num_attention_heads

    @property
    def head_size(self) -> int:
        return self.head_dim or self.hidden_size // self.num_attention_heads

    @property
    def fn(self) -> Fn:
        if self.hidden_act not in ACTIVATIONS:
            raise ConfigError(
                f"the config's activation is {self.hidden_act!r}",
                remedy=f"Known are {', '.join(ACTIVATIONS)}.",
            )
        return ACTIVATIONS[self.hidden_act]

    @property
    def _given_rope(self) -> dict[str, Any]:
        return merged(self.rope_parameters, self.rope_scaling)

    def _original(self, given: Mapping[str, Any]) -> int:
        """The length that a scaled model was trained on before."""
        return int(
            self.original_max_position_embeddings
            or given.get("original_max_position_embeddings")
            or self.max_position_embeddings
        )

    def rope(self, default_theta: float = 10000.0) -> Rope:
        """From `rope_parameters`, or `rope_theta` and `rope_scaling` as older files have it."""
        given = self._given_rope
        given.setdefault("rope_theta", self.rope_theta or default_theta)
        given.setdefault("partial_rotary_factor", self.partial_rotary_factor)
        return self.rope_from(given)

    def rope_from(self, given: Mapping[str, Any]) -> Rope:
        rotary_dim = int(self.head_size * given.get("partial_rotary_factor", 1.0))
        try:
            scaling = FrozenMap(self._scaling(given))
            theta = float(given["rope_theta"])
            context = self.context
        except (TypeError, ValueError, ZeroDivisionError, OverflowError) as error:
            raise ConfigError(
                f"the config's rope scaling {dict(given)} is wrong: {error}"
            ) from None
        if why := rope.fault_in_numbers(theta, rotary_dim, scaling, context):
            raise ConfigError(
                f"the config's rope cannot be computed: {why}",
                remedy="Take the config anew from where the model came.",
            )
        return Rope(theta, rotary_dim, scaling)

    def _scaling(self, given: Mapping[str, Any]) -> dict[str, Any]:
        kind = given.get("rope_type") or given.get("type") or "default"
        original = self._original(given)
        found: dict[str, Any] = {"kind": {"default": "none", "su": "longrope"}.get(kind, kind)}
        factor = _factor(given)
        if found["kind"] in ("yarn", "longrope"):
            factor = factor or self.max_position_embeddings / original
        if factor is not None and found["kind"] not in ("none", "longrope"):
            found["factor"] = factor
        match found["kind"]:
            case "dynamic":
                found["original_context"] = self.max_position_embeddings
            case "llama3":
                found["original_context"] = original
                for key in ("low_freq_factor", "high_freq_factor"):
                    if key in given:
                        found[key] = float(given[key])
            case "yarn":
                found["original_context"] = original
                found["beta_fast"] = float(given.get("beta_fast") or 32)
                found["beta_slow"] = float(given.get("beta_slow") or 1)
                found["truncate"] = bool(given.get("truncate", True))
                found["attention_factor"] = _yarn_attention(given, factor or 1.0)
            case "longrope":
                which = "long_factor" if self.context > original else "short_factor"
                found["factors"] = tuple(float(f) for f in given.get(which) or ())
                attention = 1.0
                if factor is not None and factor > 1:
                    attention = math.sqrt(1 + math.log(factor) / math.log(original))
                found["attention_factor"] = given.get("attention_factor") or attention
        return found


def merged(*parts: Mapping[str, Any] | None) -> dict[str, Any]:
    """What is said in any of them, the later ones first; null says nothing."""
    return {k: v for part in parts for k, v in (part or {}).items() if v is not None}


def _may_be_null(annotation: Any) -> bool:
    return type(None) in get_args(annotation)


def _factor(given: Mapping[str, Any]) -> float | None:
    """By how much rope is stretched, where the config says it."""
    try:
        factor = None if given.get("factor") is None else float(given["factor"])
    except (TypeError, ValueError) as error:
        raise ConfigError(f"the config's rope scaling {dict(given)} is wrong: {error}") from None
    if factor is not None and not 0 < factor < MOST_STRETCHED:
        raise ConfigError(f"the config's rope scaling {dict(given)} is wrong: a factor of {factor}")
    return factor


def _yarn_attention(given: Mapping[str, Any], factor: float) -> float:
    """How much yarn stretches cosines and sines, as given or by its paper's rule."""

    def stretch(by: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * by * math.log(factor) + 1.0

    if given.get("attention_factor") is not None:
        return float(given["attention_factor"])
    above, below = given.get("mscale"), given.get("mscale_all_dim")
    return stretch(above) / stretch(below) if above and below else stretch(1.0)


C = TypeVar("C", bound=TextConfig)


def read(kind: type[C], config: Mapping[str, Any], architecture: str) -> C:
    """The config, checked; one error lists everything that is wrong with it."""
    try:
        found = kind.model_validate(dict(config))
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in error.errors()
        )
        raise _wrong(architecture, wrong) from None
    heads, kv_heads = found.num_attention_heads, found.num_kv_heads
    if heads % kv_heads:
        raise _wrong(architecture, f"{heads} query heads cannot share {kv_heads} key heads evenly")
    if found.head_dim is None and found.hidden_size < heads:
        raise _wrong(architecture, f"a hidden size of {found.hidden_size} for {heads} heads")
    if found.layer_types is not None and len(found.layer_types) != found.num_hidden_layers:
        have, need = len(found.layer_types), found.num_hidden_layers
        raise _wrong(architecture, f"layer_types names {have} layers of {need}")
    return found


def _wrong(architecture: str, why: str) -> ConfigError:
    return ConfigError(f"the config of this {architecture} model is wrong: {why}")
