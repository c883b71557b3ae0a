"""The manual's build: Markdown pages, and reference pages made from the docstrings."""

from __future__ import annotations

project = "llama-core"
author = "The llama-core authors"
copyright = author  # noqa: A001 - the name is Sphinx's
extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "benchmarks/*"]
html_theme = "furo"
html_title = "llama-core"

autodoc_default_options = {"members": True, "undoc-members": False, "special-members": "__call__"}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
# Docstrings here are plain text with backticks, not reStructuredText.
default_role = "code"
