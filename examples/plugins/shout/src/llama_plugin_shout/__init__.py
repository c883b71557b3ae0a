"""Shout: answers in capitals; tool calls and reasoning stay as they are."""

from dataclasses import replace

from llama_core import hookimpl


class Shout:
    def feed(self, piece):
        if piece.channel != "content":
            return [piece]
        return [replace(piece, text=piece.text.upper())]

    def finish(self):
        return []


@hookimpl
def llama_create_postprocessor(name, options):
    return Shout()
