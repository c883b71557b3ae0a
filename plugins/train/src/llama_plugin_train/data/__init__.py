"""From files to rows of tokens: tokenized once into checked shards, mixed, shuffled and packed.

Row number i of a run is a function of the seed and i alone, so a run resumes at any row, on any
number of ranks, without having kept anything but a number.
"""

from __future__ import annotations

from llama_plugin_train.data.corpus import Corpus
from llama_plugin_train.data.faults import DataError
from llama_plugin_train.data.keeping import fetch, keep
from llama_plugin_train.data.preparing import prepare
from llama_plugin_train.data.shards import Shards
from llama_plugin_train.data.stream import Rows, Source, Stream

__all__ = ["Corpus", "DataError", "Rows", "Shards", "Source", "Stream", "fetch", "keep", "prepare"]
