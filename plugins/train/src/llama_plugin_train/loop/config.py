"""The configuration of a run: read from TOML, checked whole, written with comments.

Every mistake is found before anything is trained, and all of them are in one error; a word that is
not known comes with its near miss. Paths are relative to the file they stand in.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from llama_core.errors import ConfigError, LlamaError
from llama_plugin_train.loop.reading import Mistakes, section
from llama_plugin_train.loop.sections import (
    CheckpointsSection,
    ControlSection,
    DataSection,
    DistributedSection,
    EvaluationSection,
    ModelSection,
    OptimizerSection,
    ScheduleSection,
    SourceSection,
    TokenizerSection,
    TrainSection,
)
from llama_plugin_train.models.config import DecoderConfig, from_dict
from llama_plugin_train.optimizing.schedules import Schedule

# As small as something that learns words in minutes on a laptop.
SIZES: Mapping[str, Any] = {
    "hidden_size": 256,
    "intermediate_size": 704,
    "num_layers": 6,
    "num_heads": 8,
    "num_kv_heads": 4,
    "max_positions": 1024,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """All that a run is told."""

    model: ModelSection = field(default_factory=lambda: ModelSection(settings=dict(SIZES)))
    tokenizer: TokenizerSection = field(default_factory=TokenizerSection)
    data: DataSection = field(default_factory=DataSection)
    optimizer: OptimizerSection = field(default_factory=OptimizerSection)
    schedule: ScheduleSection = field(default_factory=ScheduleSection)
    train: TrainSection = field(default_factory=TrainSection)
    checkpoints: CheckpointsSection = field(default_factory=CheckpointsSection)
    evaluation: EvaluationSection = field(default_factory=EvaluationSection)
    control: ControlSection = field(default_factory=ControlSection)
    distributed: DistributedSection = field(default_factory=DistributedSection)

    @classmethod
    def read(cls, path: Path, overrides: Mapping[str, Any] | None = None) -> TrainConfig:
        """The configuration in a file; `overrides` are values by `section.word`."""
        try:
            given = tomllib.loads(path.read_text("utf-8"))
        except OSError as error:
            raise ConfigError(f"cannot read {path}: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} is not TOML: {error}") from error
        for name, value in (overrides or {}).items():
            *above, word = name.split(".")
            place = given
            for each in above:
                place = place.setdefault(each, {})
                if not isinstance(place, dict):
                    raise ConfigError(f"'{name}' cannot be set: {each} is no section")
            place[word] = value
        return cls.from_dict(given, str(path)).beside(path.parent)

    @classmethod
    def from_dict(cls, given: Mapping[str, Any], where: str = "the configuration") -> TrainConfig:
        """As `to_dict` wrote it, or as TOML reads."""
        wrong = Mistakes()
        named = {"model": _settings_apart(given.get("model"))} if "model" in given else {}
        config: TrainConfig = section(cls, {**given, **named}, "", wrong)
        if not wrong:
            wrong.found.extend(config.contradictions())
        wrong.raise_for(where)
        return config

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        given = asdict(self)
        model = given["model"]
        given["model"] = {"start": model["start"], **model["settings"]}
        return given

    def beside(self, folder: Path) -> TrainConfig:
        """With every relative path taken from a folder, and then absolute."""
        base = folder.absolute()

        def placed(path: str | None) -> str | None:
            return None if path is None else str(base / path)

        def all_placed(one: SourceSection) -> SourceSection:
            return replace(one, paths=tuple(str(base / path) for path in one.paths))

        return replace(
            self,
            model=replace(self.model, start=placed(self.model.start)),
            tokenizer=replace(
                self.tokenizer,
                path=placed(self.tokenizer.path),
                paths=tuple(str(base / path) for path in self.tokenizer.paths),
            ),
            data=replace(
                self.data,
                cache=placed(self.data.cache),
                sources=tuple(all_placed(one) for one in self.data.sources),
                held_out=tuple(all_placed(one) for one in self.data.held_out),
            ),
        )

    def decoder(self, vocab_size: int) -> DecoderConfig:
        """The model's own configuration, where it does not begin from a folder."""
        model = from_dict({**self.model.settings, "vocab_size": vocab_size})
        if not isinstance(model, DecoderConfig):
            raise ConfigError(
                f"a run trains decoders, and this model is of kind {model.kind}",
                remedy="Train others from Python: see objective.masked and objective.answers.",
            )
        return model

    def rates(self) -> Schedule:
        """The schedule over all steps."""
        return Schedule(
            name=self.schedule.name,
            steps=self.train.steps,
            warmup_steps=self.schedule.warmup_steps,
            decay_steps=self.schedule.decay_steps,
            floor=self.schedule.floor,
        )

    @property
    def tokens_per_step(self) -> int:
        return self.train.batch_size * self.train.accumulation * self.data.length

    def contradictions(self) -> list[str]:
        """What is right in each section and wrong together."""
        wrong: list[str] = []
        checks: list[Callable[[], object]] = [self.rates]
        if self.model.start is None:
            checks.append(lambda: _rows_fit(self, self.decoder(self.tokenizer.vocab_size)))
        for check in checks:
            try:
                check()
            except LlamaError as error:
                wrong.append(str(error))
        wrong += _together(self)
        return wrong


def _rows_fit(c: TrainConfig, shape: DecoderConfig) -> None:
    if c.data.length > shape.max_positions:
        raise ConfigError(
            f"data.length {c.data.length} is more than model.max_positions {shape.max_positions}"
        )


def _together(c: TrainConfig) -> list[str]:
    wrong = []
    if c.model.start is not None and c.model.settings:
        words = ", ".join(f"model.{word}" for word in c.model.settings)
        wrong.append(f"model.start has sizes of its own: leave out {words}")
    ranks, strategy = c.distributed.ranks, c.distributed.strategy
    if strategy != "tensor" and c.train.batch_size % ranks:
        wrong.append(f"train.batch_size {c.train.batch_size} does not divide into {ranks} ranks")
    if strategy != "ddp" and ranks > 1:
        if c.optimizer.name == "muon":
            wrong.append(f"muon needs whole matrices, which no rank has with {strategy}; use adamw")
        if c.train.quantize is not None:
            wrong.append(f"train.quantize needs whole matrices, which no rank has with {strategy}")
    if c.train.average == 1:
        wrong.append("train.average of 1 would never move; choose 0.999, say")
    if max(*c.optimizer.betas, c.optimizer.momentum) >= 1:
        wrong.append("optimizer.betas and momentum are below 1")
    if not c.data.sources:
        wrong.append("data.sources is empty: there is nothing to learn")
    names = [one.name for one in (*c.data.sources, *c.data.held_out)]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        wrong.append(f"two sources are called '{twice[0]}'")
    if c.evaluation.every and not c.data.held_out:
        wrong.append("evaluation.every is set, and data.held_out has no source to measure")
    if c.evaluation.patience and not c.evaluation.every:
        wrong.append("evaluation.patience is set, and evaluation.every is not")
    if c.evaluation.sample_every and not c.evaluation.prompts:
        wrong.append("evaluation.sample_every is set, and evaluation.prompts is empty")
    return wrong


def _settings_apart(given: Any) -> Any:
    """`[model]` as it is written is flat: `start` and the sizes side by side."""
    if not isinstance(given, Mapping) or "settings" in given:
        return given
    settings = {word: value for word, value in given.items() if word != "start"}
    return {"start": given.get("start"), "settings": settings}


def sections() -> dict[str, type[Any]]:
    """The sections by name, in the order in which they are written."""
    default = TrainConfig()
    return {one.name: type(getattr(default, one.name)) for one in fields(default)}
