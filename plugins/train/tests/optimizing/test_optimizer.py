"""Optimizers: whose weights are whose, plain definitions of a step, and state that comes back."""

from __future__ import annotations

import copy

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from llama_plugin_train.models.config import DecoderConfig  # noqa: E402
from llama_plugin_train.objective.linear_cross_entropy import next_token_loss  # noqa: E402
from llama_plugin_train.optimizing.averaging import Average  # noqa: E402
from llama_plugin_train.optimizing.clipping import clip_gradients  # noqa: E402
from llama_plugin_train.optimizing.muon import Muon, orthogonalize  # noqa: E402
from llama_plugin_train.optimizing.optimizer import Optimizer, OptimizerConfig  # noqa: E402

from llama_core.errors import ConfigError, LlamaError  # noqa: E402

SIZES = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 80, "num_layers": 2}
SIZES |= {"num_heads": 4, "num_kv_heads": 2, "max_positions": 32}


def build(**changes: object):
    torch.manual_seed(0)
    return DecoderConfig(**{**SIZES, **changes}).build()


def learn(model, optimizer, seed: int) -> float:
    text = torch.randint(64, (4, 17), generator=torch.Generator().manual_seed(seed))
    loss = next_token_loss(model(text[:, :-1]), model.head, text[:, 1:])
    loss.total.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss.total.item()


@pytest.mark.parametrize("shape", [(32, 32), (16, 64), (96, 24)])
def test_orthogonalized_matrices_are_nearly_orthogonal_and_point_the_same_way(shape) -> None:
    torch.manual_seed(0)
    u, sizes, vt = torch.linalg.svd(torch.randn(3, *shape), full_matrices=False)
    x = u @ torch.linspace(0.1, 1, sizes.shape[-1]).diag() @ vt
    found = orthogonalize(x)
    assert found.shape == x.shape
    for one, given in zip(found, x, strict=True):
        sizes = torch.linalg.svdvals(one)
        assert sizes.min() > 0.6
        assert sizes.max() < 1.25
        u, _, vt = torch.linalg.svd(given, full_matrices=False)
        core = u.T @ one @ vt.T  # diagonal where the singular vectors were kept
        assert (core - core.diag().diag()).abs().max() < 1e-3
        assert core.diag().min() > 0.6
    torch.testing.assert_close(orthogonalize(1000 * x), found, atol=1e-4, rtol=1e-4)
    assert orthogonalize(torch.zeros(1, 4, 4)).abs().max() == 0


def test_muon_moves_each_part_of_a_fused_matrix_by_itself() -> None:
    torch.manual_seed(0)
    start, gradient = torch.randn(64, 32), torch.randn(64, 32)
    weight = torch.nn.Parameter(start.clone())
    muon = Muon([weight], [(32, 16, 16)], lr=0.1, momentum=0.9, weight_decay=0.5)
    for _ in range(2):
        weight.grad = gradient.clone()
        muon.step()
    expected, momentum = start.clone(), torch.zeros_like(start)
    for _ in range(2):
        momentum = 0.9 * momentum + 0.1 * gradient
        ahead = 0.1 * gradient + 0.9 * momentum
        expected *= 1 - 0.1 * 0.5
        for rows in (slice(32), slice(32, 48), slice(48, 64)):
            step = orthogonalize(ahead[rows][None])[0]
            expected[rows] -= 0.1 * 0.2 * max(step.shape) ** 0.5 * step
    torch.testing.assert_close(weight.detach(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("changes", [{}, {"num_experts": 4}, {"tied": False}])
def test_muon_takes_the_matrices_inside_and_adamw_the_rest(changes: dict) -> None:
    model = build(**changes)
    optimizer = Optimizer(model, OptimizerConfig(name="muon"))
    learn(model, optimizer, 0)
    slots = {}
    for key in optimizer.state_arrays():
        name, slot = key.rsplit("/", 1)
        slots.setdefault(name, set()).add(slot)
    assert set(slots) == {name for name, _ in model.named_parameters()}
    for name, parameter in model.named_parameters():
        inside = name.startswith("blocks") and parameter.ndim >= 2 and "router" not in name
        assert (slots[name] == {"momentum"}) == inside, name


def test_only_matrices_decay() -> None:
    model = build(norm="layer", bias=True)
    optimizer = Optimizer(model, OptimizerConfig(rate=0.1, weight_decay=0.5))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in model.named_parameters():
        by = 0.95 if parameter.ndim >= 2 else 1.0
        torch.testing.assert_close(parameter.detach(), by * before[name], atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_it_learns(name: str) -> None:
    model = build()
    optimizer = Optimizer(model, OptimizerConfig(name=name, rate=3e-3))
    losses = [learn(model, optimizer, 0) for _ in range(60)]
    assert losses[0] > 4
    assert losses[-1] < 1.5


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_state_that_was_kept_goes_on_to_the_same_bits(name: str) -> None:
    model = build()
    optimizer = Optimizer(model, OptimizerConfig(name=name))
    for seed in range(3):
        learn(model, optimizer, seed)
    kept = {key: value.clone() for key, value in optimizer.state_arrays().items()}
    weights = copy.deepcopy(model.state_dict())
    rate = 0.37e-3
    optimizer.set_rate(rate)
    for seed in range(3, 6):
        learn(model, optimizer, seed)

    other = build()
    other.load_state_dict(weights)
    again = Optimizer(other, OptimizerConfig(name=name))
    again.load_arrays(kept)
    assert all(torch.equal(value, kept[key]) for key, value in again.state_arrays().items())
    again.set_rate(rate)
    assert again.rate == rate
    for seed in range(3, 6):
        learn(other, again, seed)
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)
    for key, value in optimizer.state_arrays().items():
        assert torch.equal(value, again.state_arrays()[key]), key


def test_state_of_something_else_is_refused_by_name() -> None:
    model = build()
    optimizer = Optimizer(model, OptimizerConfig())
    learn(model, optimizer, 0)
    state = optimizer.state_arrays()
    muon = Optimizer(build(), OptimizerConfig(name="muon"))
    with pytest.raises(LlamaError, match=r"blocks\.0\.attn\.qkv_proj\.weight.*not momentum"):
        muon.load_arrays(state)
    with pytest.raises(LlamaError, match="'blocks.1"):
        Optimizer(build(num_layers=1), OptimizerConfig()).load_arrays(state)
    with pytest.raises(LlamaError, match=r"has shape \[64, 32\]"):
        Optimizer(build(vocab_size=65), OptimizerConfig()).load_arrays(state)


@pytest.mark.parametrize(
    "wrong", [{"name": "adam"}, {"rate": 0.0}, {"betas": (0.9, 1.0)}, {"weight_decay": -1.0}]
)
def test_settings_that_make_no_sense_are_refused(wrong: dict) -> None:
    with pytest.raises(ConfigError):
        OptimizerConfig(**wrong)


def test_gradients_are_shortened_together() -> None:
    a, b = torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(1))
    a.grad, b.grad = torch.tensor([3.0, 0.0]), torch.tensor([4.0])
    assert clip_gradients([a, b]) == 5
    assert b.grad == 4
    assert clip_gradients([a, b], 10.0) == 5
    assert b.grad == 4
    assert clip_gradients([a, b], 1.0) == 5
    torch.testing.assert_close(a.grad, torch.tensor([0.6, 0.0]))
    torch.testing.assert_close(b.grad, torch.tensor([0.8]))
    b.grad = torch.tensor([float("nan")])
    assert clip_gradients([a, b], 1e-3).isnan()
    torch.testing.assert_close(a.grad, torch.tensor([0.6, 0.0]))
    assert clip_gradients([torch.zeros(3)]) == 0


def test_the_average_follows_slowly_and_forgets_its_start_soon() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    weight = model.weight
    with torch.no_grad():
        weight.fill_(100.0)
    average, expected = Average(model, decay=0.5), 100.0
    for update, value in enumerate([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]):
        with torch.no_grad():
            weight.fill_(value)
        average.update()
        keep = min(0.5, (1 + update) / (10 + update))
        expected = keep * expected + (1 - keep) * value
    with average.swapped():
        assert weight.item() == pytest.approx(expected)
    assert weight.item() == 9.0
    again = Average(model, decay=0.5)
    again.load_arrays(average.state_arrays())
    average.update(), again.update()
    with average.swapped():
        one = weight.item()
    with again.swapped():
        assert weight.item() == one


def test_a_failure_while_swapped_gives_the_weights_back() -> None:
    model = build()
    average = Average(model)
    learn(model, Optimizer(model, OptimizerConfig()), 0)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match="no"), average.swapped():
        raise ValueError("no")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_an_average_of_something_else_is_refused() -> None:
    average = Average(build())
    with pytest.raises(LlamaError, match="blocks.1"):
        average.load_arrays(Average(build(num_layers=1)).state_arrays())
    with pytest.raises(LlamaError, match="shape"):
        average.load_arrays(Average(build(vocab_size=65)).state_arrays())
