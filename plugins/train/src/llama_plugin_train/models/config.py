"""What a model is, in numbers: plain dataclasses that are read, checked and counted without torch.

A configuration refuses what cannot be built, with every mistake in one error, and knows which class
builds it. Counts of parameters and operations are in `counting`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from llama_core.errors import ConfigError, did_you_mean, sentence
from llama_plugin_train.models import counting

if TYPE_CHECKING:
    from llama_plugin_train.models.decoder import Decoder
    from llama_plugin_train.models.encoder import Encoder
    from llama_plugin_train.models.encoder_decoder import EncoderDecoder

Positions = Literal["rope", "sinusoidal", "learned", "alibi", "none"]
Norm = Literal["rms", "layer"]
Mlp = Literal["swiglu", "gelu"]
Pooling = Literal["mean", "first"]

_WORDS: Mapping[str, tuple[str, ...]] = {
    "positions": get_args(Positions),
    "norm": get_args(Norm),
    "mlp": get_args(Mlp),
    "pooling": get_args(Pooling),
}
_SIZES = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_layers", "num_heads"),
    *("num_kv_heads", "head_size", "max_positions", "num_encoder_layers"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """What every kind of model is told. Sizes left None follow from the others."""

    kind: ClassVar[str]

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int | None = None
    head_size: int | None = None
    max_positions: int = 1024
    positions: Positions = "rope"
    rope_theta: float = 10000.0
    norm: Norm = "rms"
    norm_eps: float = 1e-5
    mlp: Mlp = "swiglu"
    bias: bool = False  # of the linears; a layer norm always has one
    tied: bool = True  # the output head is the embedding
    initial_std: float = 0.02

    def __post_init__(self) -> None:
        if wrong := list(self._faults()):
            raise ConfigError(f"this {self.kind} cannot be built: {'; '.join(wrong)}")

    def _faults(self) -> Any:
        for name in _SIZES:
            size = getattr(self, name, None)
            if size is not None and (type(size) is not int or size < 1):
                yield f"{name} is {size!r}, not a positive whole number"
                return
        for name, words in _WORDS.items():
            if getattr(self, name, words[0]) not in words:
                yield f"{name} is {getattr(self, name)!r}, not one of {', '.join(words)}"
        for name in ("rope_theta", "norm_eps", "initial_std"):
            number = getattr(self, name)
            if not isinstance(number, float | int) or not 0 < number < float("inf"):
                yield f"{name} is {getattr(self, name)!r}, not a positive number"
        if self.head_size is None and self.hidden_size % self.num_heads:
            yield f"hidden_size {self.hidden_size} does not divide into num_heads {self.num_heads}"
        if self.num_heads % self.kv_heads:
            yield f"num_heads {self.num_heads} cannot share num_kv_heads {self.kv_heads} evenly"
        if self.positions == "rope" and self.head_width % 2:
            yield f"rope turns pairs, and a head has {self.head_width} numbers"
        if self.positions == "sinusoidal" and self.hidden_size % 2:
            yield f"sinusoidal positions come in pairs, and hidden_size is {self.hidden_size}"

    @property
    def kv_heads(self) -> int:
        """Heads of keys and values: as many as of queries where nothing is said."""
        return self.num_kv_heads or self.num_heads

    @property
    def head_width(self) -> int:
        return self.head_size or self.hidden_size // self.num_heads

    @property
    def depth(self) -> int:
        """Blocks on the way from a token to the output; the branches into it shrink with it."""
        return self.num_layers

    def to_dict(self) -> dict[str, Any]:
        """As `from_dict` reads it."""
        return {"kind": self.kind, **asdict(self)}

    def count_parameters(self) -> int:
        """Numbers that are trained; what is tied counts once."""
        return counting.parameters(self)

    def flops_per_token(self, length: int) -> int:
        """Floating-point operations of training on one token of rows of this length."""
        return counting.training_flops(self, length)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderConfig(ModelConfig):
    """A causal language model, by default as Llama is built."""

    kind: ClassVar[str] = "decoder"

    num_experts: int = 0  # 0: one MLP a block
    experts_per_token: int = 2

    def _faults(self) -> Any:
        yield from ModelConfig._faults(self)
        if self.num_experts and not 1 <= self.experts_per_token <= self.num_experts:
            yield f"a token cannot go to {self.experts_per_token} of {self.num_experts} experts"
        if self.num_experts and (self.mlp != "swiglu" or self.bias):
            yield "experts are swiglu MLPs without bias"

    def build(self) -> Decoder:
        from llama_plugin_train.models.decoder import Decoder

        return Decoder(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderConfig(ModelConfig):
    """A model that sees the whole text at once: masked language, classes, embeddings."""

    kind: ClassVar[str] = "encoder"

    num_classes: int = 0  # 0: no classifier
    pooling: Pooling = "mean"

    def build(self) -> Encoder:
        from llama_plugin_train.models.encoder import Encoder

        return Encoder(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderDecoderConfig(ModelConfig):
    """One text into another. `num_layers` are the decoder's; the vocabulary is shared."""

    kind: ClassVar[str] = "encoder-decoder"

    num_encoder_layers: int

    @property
    def depth(self) -> int:
        return max(self.num_layers, self.num_encoder_layers)

    def build(self) -> EncoderDecoder:
        from llama_plugin_train.models.encoder_decoder import EncoderDecoder

        return EncoderDecoder(self)


AnyConfig = DecoderConfig | EncoderConfig | EncoderDecoderConfig
KINDS: Mapping[str, type[AnyConfig]] = {one.kind: one for one in get_args(AnyConfig)}


def from_dict(given: Mapping[str, Any]) -> AnyConfig:
    """The configuration that `to_dict` wrote, or a person; an unknown word names its near miss."""
    words = dict(given)
    kind = words.pop("kind", DecoderConfig.kind)
    if kind not in KINDS:
        raise ConfigError(
            f"there is no model of kind {kind!r}", remedy=f"Known: {', '.join(KINDS)}."
        )
    known = {one.name for one in fields(KINDS[kind])}
    for word in words:
        if word not in known:
            near = did_you_mean(word, known)
            raise ConfigError(
                f"the configuration of a {kind} has no '{word}'",
                remedy=sentence(near) if near else f"Known: {', '.join(sorted(known))}.",
            )
    try:
        return KINDS[kind](**words)
    except TypeError as error:
        missing = str(error).partition("argument")[2].lstrip("s: ")
        raise ConfigError(f"the configuration of this {kind} lacks {missing}") from None
