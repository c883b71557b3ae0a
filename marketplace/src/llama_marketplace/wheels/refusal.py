"""A wheel that is not taken, and why, in words that its author can act on."""

from __future__ import annotations

from llama_core.errors import LlamaError, plain


class WheelRefused(LlamaError):
    """A wheel breaks a rule; `reason` is the rule's short name, which does not change."""

    code = "wheel_refused"

    def __init__(self, wheel: str, reason: str, why: str, *, remedy: str | None = None) -> None:
        super().__init__(f"{plain(wheel, 160)} is refused: {why}", remedy=remedy)
        self.wheel = wheel
        self.reason = reason

    def to_dict(self) -> dict[str, str | None]:
        return {**super().to_dict(), "wheel": self.wheel, "reason": self.reason}


def shown(name: object) -> str:
    """A name out of an archive, quoted, on one line."""
    return f"'{plain(name, 120)}'"
