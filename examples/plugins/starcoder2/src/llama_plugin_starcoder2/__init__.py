"""StarCoder 2: Llama with layer norms, biases everywhere, and an MLP without a gate."""

from pydantic import PositiveFloat

from llama_core import hookimpl
from llama_core.model.architectures import blocks
from llama_core.model.architectures.config import Length, TextConfig, read

NAMES = {**blocks.LLAMA_NAMES, "c_fc": "up_proj", "c_proj": "down_proj"}


class Config(TextConfig):
    num_key_value_heads: int | None = 2
    hidden_act: str = "gelu_pytorch_tanh"
    max_position_embeddings: Length = 4096
    norm_epsilon: PositiveFloat = 1e-5
    use_bias: bool = True
    tie_word_embeddings: bool = True


def norm(b, name, x):
    width = (b.config.hidden_size,)
    weights = {"weight": width, "bias": width}
    return b.add("layer_norm", name, x, weights=weights, eps=b.config.norm_epsilon)


class Starcoder2:
    def build(self, config):
        c = read(Config, config, "starcoder2")
        b, rope, bias = blocks.Builder(c), c.rope(), c.use_bias
        x = b.embed()
        for i in range(c.num_hidden_layers):
            h = norm(b, f"layers.{i}.attn_norm", x)
            h = blocks.attention(b, i, h, rope, bias=bias, out_bias=bias, window=c.sliding_window)
            x = b.add("add", f"layers.{i}.attn_add", x, h)
            h = norm(b, f"layers.{i}.mlp_norm", x)
            h = b.linear(f"layers.{i}.mlp.up_proj", h, c.hidden_size, c.intermediate_size, bias)
            h = b.add("activation", f"layers.{i}.mlp.act", h, fn=c.fn)
            h = b.linear(f"layers.{i}.mlp.down_proj", h, c.intermediate_size, c.hidden_size, bias)
            x = b.add("add", f"layers.{i}.mlp_add", x, h)
        return b.finish("starcoder2", norm(b, "norm", b.add("gather", "wanted", x, "rows")))

    def rename(self, tensor):
        return blocks.rename(tensor, NAMES)


@hookimpl
def llama_create_architecture(name):
    return Starcoder2()
