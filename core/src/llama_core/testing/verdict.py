"""How a rule says that it is broken: in words for the plugin's author, without our own frames."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from llama_core.errors import LlamaError


def check(holds: object, message: str) -> None:
    """Fail with a message for the plugin's author; our own frames would tell them nothing."""
    __tracebackhide__ = True
    if not holds:
        raise pytest.fail.Exception(message, pytrace=False) from None


def refuses(call: Callable[[], object], message: str) -> LlamaError | None:
    """The call must raise a LlamaError; `message` says what to do where it does not."""
    __tracebackhide__ = True
    try:
        call()
    except LlamaError as error:
        return error
    except Exception as error:  # noqa: BLE001 - whatever else escapes is the finding
        check(False, f"{message} It raised {type(error).__name__}: {error}")
    check(False, f"{message} It raised nothing.")
    return None
