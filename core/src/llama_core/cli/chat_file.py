"""A conversation in a file: its system prompt and messages, as JSON.

A file may come from elsewhere, so what is asked of its messages here is looked at as they come in.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llama_core.engine.conversation import Conversation
from llama_core.errors import LlamaError


def save_conversation(conversation: Conversation, path: Path) -> None:
    """Write it, for `load_conversation`."""
    held = {"system": conversation.system, "messages": conversation.messages}
    try:
        path.write_text(json.dumps(held, indent=2, ensure_ascii=False) + "\n", "utf-8")
    except OSError as error:
        raise LlamaError(f"cannot write {path}: {error.strerror}") from error


def load_conversation(conversation: Conversation, path: Path) -> None:
    """Go on with what `/save` wrote, or with a bare list of messages."""
    try:
        held = json.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise LlamaError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise LlamaError(f"{path} holds no conversation: {error}") from error
    messages = held.get("messages") if isinstance(held, dict) else held
    system = held.get("system") if isinstance(held, dict) else conversation.system
    if not isinstance(messages, list) or not isinstance(system, str | None):
        raise LlamaError(
            f"{path} holds no conversation", remedy="It is a list of messages with a role each."
        )
    for number, message in enumerate(messages, 1):
        if wrong := _wrong_with(message):
            raise LlamaError(f"{path} holds no conversation: in message {number}, {wrong}")
    conversation.system, conversation.messages = system, messages


def _wrong_with(message: Any) -> str | None:
    """What a message lacks that is asked of it here; its content is for the template to judge."""
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        return "there is no role"
    calls = message.get("tool_calls")
    if not isinstance(calls, list | None):
        return "tool_calls is no list"
    for call in calls or ():
        function = call.get("function") if isinstance(call, dict) else None
        named = isinstance(function, dict) and isinstance(function.get("name"), str)
        if not named or not isinstance(call.get("id"), str):
            return "a tool call has no id, or no function with a name"
    return None
