"""The text that the bundled model learns from, made here and nowhere else.

Every item is a function of a seed and its number alone, so a corpus is the same bytes on every
machine, and any part of it can be made again. What must never be trained on is decided in
`held_out`, by digests and not by a draw.
"""
