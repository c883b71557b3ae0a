"""Talk with a model: what you type is answered, and the oldest turns go when the context is full.

A model that was trained for chats says in its template how a chat is written; for one that was not,
the chat is written as a play. End with an empty line or Ctrl-D.

    python examples/conversation.py MODEL --system "You answer in one sentence."
"""

from __future__ import annotations

import argparse
import sys
from contextlib import closing
from dataclasses import replace

from llama_core import LlamaError, Plugins
from llama_core.engine.chains import standard
from llama_core.engine.load import Loaded, load
from llama_core.engine.request import Params, Request
from llama_core.model.chat import chat_template

Message = dict[str, str]


def written(model: Loaded, messages: list[Message], params: Params) -> Request:
    """The chat as the model is to read it."""
    if model.files.chat_template is not None:
        text = chat_template(model.files, model.tokenizer).render(messages)
        return model.request(text, params, add_special=False)  # the template has its own
    names = {"system": "", "user": "User: ", "assistant": "Assistant: "}
    lines = [f"{names[one['role']]}{one['content']}" for one in messages]
    text = "\n".join([*lines, "Assistant:"])
    return model.request(text, replace(params, stop=("\nUser:", "\nAssistant:")))


def answer(model: Loaded, messages: list[Message], args: argparse.Namespace) -> str:
    """Print the answer as it comes, and give it whole."""
    longest = min(args.max_tokens, model.context_length // 2)
    transforms, sampler = standard(temperature=args.temperature, min_p=0.05)
    params = Params(longest, transforms=transforms, sampler=sampler, seed=args.seed)
    request = written(model, messages, params)
    while len(request.prompt) + longest > model.context_length and len(messages) > 2:
        oldest = 1 if messages[0]["role"] == "system" else 0
        del messages[oldest : oldest + 2]  # a question and its answer
        request = written(model, messages, params)
    text = ""
    with closing(model.engine.stream(request)) as updates:
        for update in updates:
            if update.error is not None:
                raise update.error
            text += update.text
            print(update.text, end="", flush=True)
    print()
    return text.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description="Talk with a model.")
    parser.add_argument("model", help="a folder, a GGUF file, or an installed model's name")
    parser.add_argument("--system", help="what the model is told before the chat")
    parser.add_argument("--max-tokens", type=int, default=200, help="of one answer")
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--seed", type=int)
    args = parser.parse_args()
    messages: list[Message] = []
    if args.system:
        messages.append({"role": "system", "content": args.system})
    with load(args.model, plugins=Plugins.load()) as model:
        while True:
            print("> ", end="", flush=True)
            line = sys.stdin.readline().strip()
            if not line:
                return
            messages.append({"role": "user", "content": line})
            messages.append({"role": "assistant", "content": answer(model, messages, args)})


if __name__ == "__main__":
    try:
        main()
    except (LlamaError, UnicodeError) as error:
        sys.exit(f"error: {error}")
