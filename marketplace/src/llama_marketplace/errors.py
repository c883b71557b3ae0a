"""What the marketplace refuses, each with a code of its own."""

from __future__ import annotations

from llama_core.errors import LlamaError


class RecordRefused(LlamaError):
    """A record, a shard of the catalogue or a page of an index is not what it must be."""

    code = "record_refused"


class IndexFailed(LlamaError):
    """An index is not set up, cannot be reached, or is not where it was said to be."""

    code = "index_error"


class Untrusted(LlamaError):
    """What an index served is not what its keys have signed, or is older than what was seen."""

    code = "index_untrusted"


class KeyTrouble(LlamaError):
    """A signing key is missing, cannot be read, or is not the one that is needed."""

    code = "key_trouble"
