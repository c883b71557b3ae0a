"""Encoders and encoder-decoders learn toy tasks by these losses, in seconds."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from llama_plugin_train.models.config import EncoderConfig, EncoderDecoderConfig  # noqa: E402
from llama_plugin_train.models.encoder import padding_segments  # noqa: E402
from llama_plugin_train.objective.answers import (  # noqa: E402
    classification_loss,
    teacher_forcing,
)
from llama_plugin_train.objective.linear_cross_entropy import next_token_loss  # noqa: E402
from llama_plugin_train.objective.masked import mask_tokens  # noqa: E402
from llama_plugin_train.optimizing.optimizer import Optimizer, OptimizerConfig  # noqa: E402

PAD, START, END, MASK, WORDS = 0, 1, 2, 3, 20
SIZES = {"vocab_size": WORDS, "hidden_size": 32, "intermediate_size": 64, "num_layers": 2}
SIZES |= {"num_heads": 4, "max_positions": 32}


def train(model, loss, steps: int) -> None:
    optimizer = Optimizer(model, OptimizerConfig(rate=3e-3, weight_decay=0.0))
    for _ in range(steps):
        loss().backward()
        optimizer.step()
        optimizer.zero_grad()


def runs(generator, rows: int, length: int = 8):
    """Texts that count upwards from anywhere, round and round."""
    first = torch.randint(16, (rows, 1), generator=generator)
    return 4 + (first + torch.arange(length)) % 16


def test_an_encoder_learns_to_fill_gaps() -> None:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    model = EncoderConfig(**SIZES).build()

    def hidden_words(rows: int):
        return mask_tokens(runs(generator, rows), mask=MASK, vocab_size=WORDS, generator=generator)

    def loss():
        inputs, targets, weights = hidden_words(64)
        return next_token_loss(model(inputs), model.head, targets, weights).total

    train(model, loss, 200)
    inputs, targets, weights = hidden_words(200)
    said = (model(inputs) @ model.head.T).argmax(-1)
    right = (said == targets)[weights > 0].float().mean()
    assert right > 0.9


def test_an_encoder_learns_classes_and_its_vectors_tell_them_apart() -> None:
    """Whether a text counts up or down, padded to different lengths."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    model = EncoderConfig(**SIZES, num_classes=2).build()

    def texts(rows: int):
        labels = torch.randint(2, (rows,), generator=generator)
        up = runs(generator, rows)
        tokens = torch.where(labels[:, None] == 1, up, up.flip(1))
        lengths = torch.randint(4, 9, (rows, 1), generator=generator)
        return tokens.masked_fill(torch.arange(8) >= lengths, PAD), labels

    def loss():
        tokens, labels = texts(64)
        return classification_loss(model.classes(tokens, padding_segments(tokens, PAD)), labels)

    train(model, loss, 150)
    tokens, labels = texts(200)
    segments = padding_segments(tokens, PAD)
    assert (model.classes(tokens, segments).argmax(-1) == labels).float().mean() > 0.95
    vectors = model.embeddings(tokens, segments).detach()
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(200))
    like = vectors @ vectors.T
    same = labels[:, None] == labels
    assert like[same].mean() > like[~same].mean() + 0.5


def test_padding_changes_no_vector() -> None:
    torch.manual_seed(0)
    for pooling in ("mean", "first"):
        model = EncoderConfig(**SIZES, pooling=pooling, initial_std=0.3).build()
        short = torch.tensor([[5, 9, 7]])
        long = torch.tensor([[5, 9, 7, PAD, PAD]])
        padded = model.embeddings(long, padding_segments(long, PAD))
        torch.testing.assert_close(model.embeddings(short), padded, atol=1e-5, rtol=1e-5)


def test_an_encoder_decoder_learns_to_turn_texts_around() -> None:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    model = EncoderDecoderConfig(**SIZES, num_encoder_layers=1, positions="learned").build()

    def pairs(rows: int):
        source = torch.randint(4, WORDS, (rows, 5), generator=generator)
        lengths = torch.randint(2, 6, (rows, 1), generator=generator)
        source = source.masked_fill(torch.arange(5) >= lengths, PAD)
        answers = torch.full((rows, 6), PAD)
        for row, length in enumerate(lengths[:, 0].tolist()):
            answers[row, :length] = source[row, :length].flip(0)
            answers[row, length] = END
        return source, answers

    def loss():
        source, answers = pairs(64)
        inputs, targets, weights = teacher_forcing(answers, start=START, padding=PAD)
        hidden = model(source, inputs, padding_segments(source, PAD))
        return next_token_loss(hidden, model.head, targets, weights).total

    train(model, loss, 300)
    source, answers = pairs(100)
    segments = padding_segments(source, PAD)
    said = model.generate(source, start=START, end=END, max_tokens=6, segments_BS=segments)
    expected = [row[: row.index(END)] for row in answers.tolist()]
    assert sum(one == other for one, other in zip(said, expected, strict=True)) >= 90


def test_what_is_hidden_is_hidden_as_berts() -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.full((400, 100), 7)
    never = torch.zeros_like(tokens, dtype=torch.bool)
    never[:, :20] = True
    inputs, targets, weights = mask_tokens(
        tokens, mask=MASK, vocab_size=WORDS, generator=generator, fraction=0.2, never_BT=never
    )
    assert torch.equal(targets, tokens)
    assert weights[:, :20].sum() == 0
    assert torch.equal(inputs[:, :20], tokens[:, :20])
    chosen = weights > 0
    assert chosen[:, 20:].float().mean().item() == pytest.approx(0.2, abs=0.01)
    assert (inputs[chosen] == MASK).float().mean().item() == pytest.approx(0.805, abs=0.02)
    assert (inputs[chosen] == 7).float().mean().item() == pytest.approx(0.105, abs=0.02)
    assert torch.equal(inputs[~chosen], tokens[~chosen])


def test_smoothing_takes_from_the_right_class() -> None:
    scores = torch.tensor([[10.0, 0.0, 0.0]])
    sure = classification_loss(scores, torch.tensor([0]))
    assert sure < 0.001
    assert classification_loss(scores, torch.tensor([0]), smoothing=0.3) > sure + 1
