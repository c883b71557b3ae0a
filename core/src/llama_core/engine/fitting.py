"""Whether a model's tensors are those of its graph, said in the names that its file has.

It compares names and shapes and reads no numbers. Nothing here has to do with what runs the model:
a file that does not fit its config fits it on no backend.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from llama_core.contracts.format import ModelFiles
from llama_core.errors import did_you_mean
from llama_core.model.graph import Graph, GraphError
from llama_core.model.weights import RenamedWeights, Weights

_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")


def check_fit(graph: Graph, weights: RenamedWeights, files: ModelFiles) -> None:
    """Refuse tensors that are missing, misshapen or both, all of them in one error."""
    if not graph.weight_problems(weights):
        return
    unread = {name: weights.old_name(name) for name in left_over(graph, weights)}
    stored = _stored_names(weights)
    missing, misshapen = [], []
    for name, shape in graph.shapes.items():
        if name not in weights:
            called = stored(name)
            near = did_you_mean(called, unread.values())
            missing.append(f"{called} {list(shape)} is missing" + (f" ({near})" if near else ""))
        elif (found := tuple(weights.about(name).shape)) != shape:
            old = weights.old_name(name)
            misshapen.append(f"{old} is {list(found)} and must be {list(shape)}")
    problems = [*missing, *misshapen, *(f"{old} is left over" for old in unread.values())]
    # A model of another kind shares few names with this one; a cut download lacks some.
    another = len(missing) > len(graph.shapes) / 2
    raise GraphError(
        f"the tensors of {files.path} do not fit {graph.architecture}",
        problems,
        remedy=f"Is it a model of another kind than its config says, {graph.architecture}? "
        "Correct model_type there."
        if another
        else "Take config and weights from one place, whole.",
    )


def left_over(graph: Graph, weights: Weights) -> list[str]:
    """Tensors that no node reads."""
    return [name for name in weights.names() if name not in graph.shapes]


def _stored_names(weights: RenamedWeights) -> Callable[[str], str]:
    """What the file would call a tensor that it lacks, by the same tensor of another layer.

    One that has no such sibling keeps the graph's name.
    """
    patterns = {_NUMBER.sub("#", name): weights.old_name(name) for name in weights.names()}

    def stored(name: str) -> str:
        sibling = patterns.get(_NUMBER.sub("#", name))
        numbers = _NUMBER.findall(name)
        if sibling is None or len(_NUMBER.findall(sibling)) != len(numbers):
            return name
        return _filled(sibling, numbers)

    return stored


def _filled(name: str, numbers: Iterable[str]) -> str:
    left = iter(numbers)
    return _NUMBER.sub(lambda _: next(left), name)
