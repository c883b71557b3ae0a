"""The mapping of weights: lazy, and its views change nothing but what they say."""

from __future__ import annotations

import numpy as np
import pytest

from llama_core.errors import LlamaError
from llama_core.model.encodings import EncodingError, parse_encoding
from llama_core.model.rewrites.tensor import Cut, CutWeights
from llama_core.model.weights import (
    About,
    DenseWeights,
    MappedWeights,
    OverlayWeights,
    RenamedWeights,
    Tensor,
    UnknownTensor,
    Weights,
    reencoded,
    tensor,
)

X = np.arange(64, dtype=np.float32).reshape(2, 32)
BASE = DenseWeights({"a.weight": X, "b.weight": X + 1})


def test_an_unknown_name_says_what_is_near_and_is_a_key_error() -> None:
    with pytest.raises(UnknownTensor, match=r"no tensor is named 'a\.weigth'.*'a\.weight'"):
        BASE["a.weigth"]
    assert "c" not in BASE
    assert BASE.get("c") is None
    assert list(BASE) == ["a.weight", "b.weight"]
    assert len(BASE) == 2


def test_views_rename_hide_and_replace() -> None:
    renamed = RenamedWeights(BASE, lambda name: None if name[0] == "b" else name[0])
    assert list(renamed) == ["a"]
    assert np.array_equal(renamed.array("a"), X)
    with pytest.raises(LlamaError, match="are both 'same'"):
        RenamedWeights(BASE, lambda _: "same")
    over = OverlayWeights(BASE, DenseWeights({"b.weight": X * 2, "c": X}), hide=["a.weight"])
    assert list(over) == ["b.weight", "c"]
    assert "a.weight" not in over
    assert np.array_equal(over.array("b.weight"), X * 2)


def test_a_view_is_computed_when_asked_and_not_before() -> None:
    asked: list[str] = []

    def change(name: str, one: Tensor) -> Tensor:
        asked.append(name)
        return tensor(one.decode() * 2)

    view = MappedWeights(BASE, change)
    assert list(view) == ["a.weight", "b.weight"]
    assert "a.weight" in view
    assert asked == []
    assert np.array_equal(view.array("b.weight"), (X + 1) * 2)
    assert asked == ["b.weight"]


def test_reencoding_is_a_view_that_knows_shapes_beforehand() -> None:
    view = reencoded(BASE, lambda name, _: "q4:g32" if name[0] == "a" else None)
    assert view.about("a.weight") == ((2, 32), parse_encoding("q4:g32"))
    assert view["a.weight"].encoding.name == "q4:g32"
    assert view["b.weight"] is BASE["b.weight"]
    assert view["a.weight"].num_bytes == 2 * (16 + 2)


class Unread(DenseWeights):
    """Weights that may be described, and not looked at."""

    def find(self, name: str) -> Tensor | None:
        raise AssertionError(f"{name} was looked at")

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def about(self, name: str) -> About:
        return About(self._tensors[name].shape, self._tensors[name].encoding)

    def bytes_of(self, name: str) -> int:
        return self._tensors[name].num_bytes


UNREAD = Unread({"a.weight": X, "b.weight": X + 1})


def views() -> dict[str, Weights]:
    return {
        "renamed": RenamedWeights(UNREAD, lambda name: f"x.{name}"),
        "over": OverlayWeights(UNREAD, Unread({"c": X[0]}), hide=["a.weight"]),
        "reencoded": reencoded(UNREAD, lambda name, _: "q4:g32" if name[0] == "a" else None),
        "twice": reencoded(
            reencoded(UNREAD, lambda *_: "q8:g32"),
            lambda _, one: "f16" if one.encoding.name == "q8:g32" else None,
        ),
        "cut": CutWeights(UNREAD, {"part": Cut("a.weight", 1, 8, 24)}),
    }


@pytest.mark.parametrize("name", views())
def test_a_view_describes_without_looking(name: str) -> None:
    """Names, `in`, shape, encoding and bytes of every view, none of which reads a tensor."""
    view = views()[name]
    says = {
        "renamed": {"x.a.weight": ((2, 32), "f32", 256), "x.b.weight": ((2, 32), "f32", 256)},
        "over": {"b.weight": ((2, 32), "f32", 256), "c": ((32,), "f32", 128)},
        "reencoded": {"a.weight": ((2, 32), "q4:g32", 36), "b.weight": ((2, 32), "f32", 256)},
        "twice": {"a.weight": ((2, 32), "f16", 128), "b.weight": ((2, 32), "f16", 128)},
        "cut": {"part": ((2, 16), "f32", 128)},
    }[name]
    assert list(view) == list(says)
    for tensor_name, (shape, encoding, num_bytes) in says.items():
        assert tensor_name in view
        assert view.about(tensor_name) == (shape, parse_encoding(encoding))
        assert view.bytes_of(tensor_name) == num_bytes
    assert view.num_bytes == sum(one[2] for one in says.values())
    assert "nowhere" not in view
    assert "a.weight" in view or "a.weight" not in says


@pytest.mark.parametrize("name", views())
def test_what_a_view_says_is_what_it_gives(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    view = views()[name]
    told = {one: (view.about(one), view.bytes_of(one)) for one in view}
    monkeypatch.setattr(Unread, "find", DenseWeights.find)
    for one, (about, num_bytes) in told.items():
        assert about == (view[one].shape, view[one].encoding)
        assert num_bytes == view[one].num_bytes
    for hidden in {"a.weight", "nowhere"} - set(told):
        for ask in (view.about, view.bytes_of, view.__getitem__):
            with pytest.raises(UnknownTensor):
                ask(hidden)


def test_a_tensor_is_cut_at_its_granularity_only() -> None:
    one = tensor(np.tile(X, (1, 4))).encoded("q4:g32")
    assert one.granularity(1) == 32
    half = one.cut(1, 64, 128)
    assert half.shape == (2, 64)
    assert np.array_equal(half.decode(), one.decode()[:, 64:])
    assert one.cut(0, 0, 2) is one
    for start, stop in ((0, 33), (8, 32), (-1, 32), (64, 32), (0, 129)):
        with pytest.raises(EncodingError, match="multiples of 32"):
            one.cut(1, start, stop)


def test_arrays_of_other_types_are_refused() -> None:
    with pytest.raises(EncodingError, match="complex64"):
        tensor(np.zeros(3, np.complex64))
    assert DenseWeights({"i": np.arange(3)})["i"].encoding.name == "i64"
