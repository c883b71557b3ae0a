"""From text to tokens: training a tokenizer, and using one with the chat template beside it.

It knows texts and conversations; where they come from and where their tokens go is known elsewhere.
"""

from __future__ import annotations

from llama_plugin_train.tokens.encoder import ConversationError, Encoder
from llama_plugin_train.tokens.template import CHATML
from llama_plugin_train.tokens.training import TokenizerConfig, train_tokenizer

__all__ = ["CHATML", "ConversationError", "Encoder", "TokenizerConfig", "train_tokenizer"]
