"""What can go wrong with a request, as the engine's caller reads it. Knows no engine."""

from __future__ import annotations

from llama_core.errors import LlamaError
from llama_core.isolation import explain


class InvalidRequest(LlamaError):
    """A parameter lies outside its bounds; the message names the bound."""

    code = "invalid_request"

    def __init__(self, message: str, *, param: str | None = None, remedy: str | None = None):
        super().__init__(message, remedy=remedy)
        self.param = param

    def to_dict(self) -> dict[str, str | None]:
        return {**super().to_dict(), "param": self.param}


class ContextOverflow(InvalidRequest):
    """Prompt and answer are longer than the model or its memory can hold."""

    code = "context_length_exceeded"


class QueueFull(LlamaError):
    """Too many requests wait already."""

    code = "rate_limit_exceeded"

    def __init__(self, message: str, *, retry_after_seconds: float) -> None:
        super().__init__(message, remedy=f"Try again in {retry_after_seconds:.0f} s")
        self.retry_after_seconds = retry_after_seconds


class DeadlineExceeded(LlamaError):
    """The request's deadline passed before its answer was complete."""

    code = "deadline_exceeded"


class ProgramFault(LlamaError):
    """The program failed in a step; every request of that step ends with this."""

    code = "program_fault"


def in_a_step(error: BaseException) -> ProgramFault:
    """What a program raised in a step, as its requests are told of it."""
    if isinstance(error, ProgramFault):
        return error
    fault = ProgramFault(f"the program failed in a step: {explain(error)}")
    fault.__cause__ = error
    return fault


class SamplingFault(LlamaError):
    """A logit, a transform or a sampler of this request was unusable."""

    code = "sampling_fault"


class ProcessorFault(LlamaError):
    """A tokenizer or postprocessor of this request failed."""

    code = "processor_fault"


class EngineClosed(LlamaError):
    """The engine has been closed, or broke down, and takes no more requests."""

    code = "engine_closed"


class WorkerDied(LlamaError):
    """The worker process that held the request crashed, was killed or hung."""

    code = "worker_died"
