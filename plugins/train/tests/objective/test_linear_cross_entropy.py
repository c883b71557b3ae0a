"""The chunked loss is the plain one, in value and gradient, and never holds all the logits."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from llama_plugin_train.objective.linear_cross_entropy import next_token_loss  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from llama_core.errors import LlamaError  # noqa: E402

WORDS, SIZE, ROWS = 50, 16, (3, 11)


def plain(hidden, head, targets, weights, z_loss):
    logits = (hidden @ head.T).flatten(0, 1)
    lse = logits.logsumexp(-1)
    nll = lse - logits.gather(1, targets.flatten()[:, None])[:, 0]
    return ((nll + z_loss * lse.square()) * weights.flatten()).sum() / weights.sum()


def batch(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(*ROWS, SIZE, generator=generator, dtype=torch.float64).to(dtype)
    head = torch.randn(WORDS, SIZE, generator=generator, dtype=torch.float64).to(dtype)
    targets = torch.randint(WORDS, ROWS, generator=generator)
    weights = torch.rand(ROWS, generator=generator).to(torch.float32)
    weights[weights < 0.4] = 0
    return hidden.requires_grad_(), head.requires_grad_(), targets, weights


@pytest.mark.parametrize("chunk", [1, 4, 7, 33, 1000, None])
@pytest.mark.parametrize("z_loss", [0.0, 0.01])
@pytest.mark.parametrize("weighted", [True, False])
def test_value_and_gradient_are_the_plain_ones(chunk, z_loss, weighted) -> None:
    hidden, head, targets, weights = batch(torch.float32)
    if not weighted:
        weights = torch.ones(ROWS)
    expected = plain(hidden, head, targets, weights, z_loss)
    wanted = torch.autograd.grad(expected, (hidden, head))
    found = next_token_loss(
        hidden, head, targets, weights if weighted else None, chunk=chunk, z_loss=z_loss
    )
    gradients = torch.autograd.grad(found.total * 3, (hidden, head))
    torch.testing.assert_close(found.total, expected)
    for one, other in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(one, 3 * other, atol=1e-6, rtol=1e-5)
    mean = (found.nll_sum + z_loss * found.z) / found.weight_sum
    torch.testing.assert_close(mean, expected.detach())
    with torch.no_grad():
        seen = next_token_loss(hidden, head, targets, weights, chunk=chunk, z_loss=z_loss)
    torch.testing.assert_close(seen.total, expected.detach())


class Largest(TorchDispatchMode):
    """Remembers the most rows that any tensor as wide as the vocabulary had."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for one in out if isinstance(out, tuple | list) else (out,):
            if isinstance(one, torch.Tensor) and one.ndim == 2 and one.shape[1] == WORDS:
                self.rows = max(self.rows, one.shape[0])
        return out


def test_no_more_logits_than_a_chunks_are_ever_held() -> None:
    hidden, head, targets, weights = batch(torch.float32)
    with Largest() as held:
        loss = next_token_loss(hidden, head, targets, torch.ones(ROWS), chunk=5)
        loss.total.backward()
    # The head itself, turned, is as wide as the vocabulary and as high as a hidden state.
    assert held.rows == max(5, SIZE)
    with Largest() as held:
        plain(hidden, head, targets, weights, 0.0).backward()
    assert held.rows == ROWS[0] * ROWS[1], "the watch sees what it should"


def test_masked_targets_are_not_even_read() -> None:
    hidden, head, targets, weights = batch(torch.float32)
    loss = next_token_loss(hidden, head, targets, weights)
    wild = targets.masked_fill(weights == 0, -100)
    assert torch.equal(next_token_loss(hidden, head, wild, weights).total, loss.total)
    loss.total.backward()
    assert (hidden.grad[weights == 0] == 0).all()


def test_a_row_of_which_nothing_is_wanted_costs_nothing() -> None:
    hidden, head, targets, _ = batch(torch.float32)
    loss = next_token_loss(hidden, head, targets, torch.zeros(ROWS))
    loss.total.backward()
    assert loss.total == 0
    assert (hidden.grad == 0).all()
    assert (head.grad == 0).all()


def test_parts_of_a_step_add_up_to_the_whole() -> None:
    hidden, head, targets, weights = batch(torch.float32)
    whole = next_token_loss(hidden, head, targets, weights)
    whole.total.backward()
    gradient, head.grad = head.grad, None
    for row in range(ROWS[0]):
        part = next_token_loss(hidden[row], head, targets[row], weights[row], weight=weights.sum())
        part.total.backward()
    torch.testing.assert_close(head.grad, gradient)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bits_are_near_32(dtype: torch.dtype) -> None:
    hidden, head, targets, weights = batch(torch.float32)
    expected = plain(hidden, head, targets, weights, 0.01)
    wanted = torch.autograd.grad(expected, (hidden, head))
    narrow = hidden.detach().to(dtype).requires_grad_()
    found = next_token_loss(narrow, head, targets, weights, chunk=8, z_loss=0.01)
    gradients = torch.autograd.grad(found.total, (narrow, head))
    torch.testing.assert_close(found.total, expected, atol=0.03, rtol=0.03)
    assert gradients[1].dtype == torch.float32
    for one, other in zip(gradients, wanted, strict=True):
        assert (one.float() - other).norm() / other.norm() < 0.03


def test_a_gradient_is_taken_once() -> None:
    hidden, head, targets, weights = batch(torch.float32)
    loss = next_token_loss(hidden, head, targets, weights)
    loss.total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="already taken"):
        loss.total.backward()


def test_rows_that_do_not_fit_are_refused() -> None:
    hidden, head, targets, _ = batch(torch.float32)
    with pytest.raises(LlamaError, match="11 targets for 33 hidden states"):
        next_token_loss(hidden, head, targets[0])
