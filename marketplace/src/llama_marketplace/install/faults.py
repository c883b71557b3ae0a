"""What keeps an installation from happening; whatever it is, what was there before is untouched."""

from __future__ import annotations

from llama_core.errors import LlamaError


class DoesNotFit(LlamaError):
    """Nothing that an index offers of a plugin can run on this machine, or beside what is here."""

    code = "does_not_fit"


class CannotResolve(LlamaError):
    """What plugins need beside what is here could not be found, or contradicts itself."""

    code = "cannot_resolve"


class InstallFailed(LlamaError):
    """An installation was begun and given up."""

    code = "install_failed"


class Damaged(LlamaError):
    """A generation on disk is not what was installed."""

    code = "generation_damaged"
