"""Records of friends and of enemies, and the shelf that a site is made from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from llama_marketplace.index.record import Record
from llama_marketplace.site.entries import Entry, Home, Shelf
from operating import record

HOME = Home("corp", "ab" * 32, "https://plugins.corp.example/")

# What strangers write where a line of text may stand.
HOSTILE = (
    "</script><script>evil()</script>",
    "<img src=x onerror=evil()>",
    '"><svg onload=evil()>',
    "' autofocus onfocus='evil()",
    "--><script>evil()</script><!--",
    "</title><script>evil()</script>",
    "{{ 7 * 7 }}{% include '/etc/passwd' %}",
    "javascript:evil()",
    "]]><script>evil()</script>",
    "&lt;script&gt;evil()&lt;/script&gt;",
    "<a href=javascript:evil()>free</a>",
    "\\u003cscript>evil()\\u003c/script>",
    "${evil()}`evil()`",
    "__proto__",
)
README = """# Hello <script>evil()</script>

[run](javascript:evil()) [RUN](JaVaScRiPt:evil()) [tab](java\tscript:evil())
[entity](&#106;avascript:evil()) [vb](vbscript:evil())
[data](data:text/html,<script>evil()</script>)
[file](file:///etc/passwd) [rel](docs/x.md) [frag](#main) [mail](mailto:a@b.example)
[net](//evil.example/x)
[user](https://corp.example@evil.example/) [back](https://good.example\\\\@evil.example/)
<javascript:evil()> <https://auto.example/"onmouseover="evil()>

<script>evil()</script><style>*{display:none}</style>
<iframe src="https://evil.example/"></iframe>

<img src=x onerror=evil()><svg/onload=evil()>
<a href="javascript:evil()" style="position:fixed">x</a>

![pixel](https://evil.example/pixel.gif "evil") [![badge](https://evil.example/b.svg)](https://ci.example/?a=1&b=2)

| a | b |
|:-:|--:|
| <b onclick=evil()> | [x](javascript:evil()) |

```html onload=evil()
</code></pre><script>evil()</script>
```

[ref]

[ref]: javascript:evil() "x"

<!-- --> <script>evil()</script> -->
<![CDATA[ <script>evil()</script> ]]>
<?php evil() ?>
"""


def hostile(number: int, text: str) -> Record:
    """A record that says one evil thing wherever its schema lets it."""
    name = f"llama-plugin-evil-{number}"
    return record(
        name=name,
        summary=text,
        licence=text,
        readme=f"{text}\n\n{README}",
        homepage=f"https://evil.example/{text}" if text.isascii() and " " not in text else None,
        permissions=[text],
        requires_core=">=0.1,===<script>",
        conformance=[
            {"core": "0.1.0", "date": "2026-01-02", "suite": text, "passed": 1, "failed": 0}
        ],
        provides=[
            {"kind": "transform", "name": "x", "api": 1, "summary": text,
             "needs": {"cuda": "===<script>"}}
        ],
        history=[
            {"status": "active", "date": "2026-01-02", "reason": text},
            {"status": "deprecated", "date": "2026-01-03", "reason": text},
        ],
    )  # fmt: skip


def everybody_hostile() -> list[Record]:
    return [hostile(number, text) for number, text in enumerate(HOSTILE)]


def entry(*records: Record, verified: bool = True) -> Entry:
    """The newest first, as given."""
    return Entry(HOME, verified, records)


def shelf(*records: Record, verified: Iterable[str] = ("acme",), home: Home = HOME) -> Shelf:
    by_name: dict[str, list[Record]] = {}
    for each in records:
        by_name.setdefault(each.name, []).append(each)
    names = {name: all(each.publisher in verified for each in by_name[name]) for name in by_name}
    return Shelf(home, names, lambda name: by_name[name])


def change(status: str, reason: str | None = None) -> dict[str, Any]:
    return {"status": status, "date": "2026-02-03", "reason": reason}
