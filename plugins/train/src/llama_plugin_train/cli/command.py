"""The group behind `llama train`: what begins with no name of a command trains."""

from __future__ import annotations

import click

from llama_plugin_train.cli.begin import init
from llama_plugin_train.cli.run import run
from llama_plugin_train.cli.steering import STEERING


class TrainGroup(click.Group):
    """`llama train config.toml` is short for `llama train run config.toml`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in {*self.commands, *self.get_help_option_names(ctx)}:
            args = [run.name or "run", *args]
        return super().parse_args(ctx, args)


@click.group(
    "train",
    cls=TrainGroup,
    epilog="Example: llama train init config.toml, then llama train config.toml",
)
def train() -> None:
    """Train a model from scratch, and steer it while it trains.

    `llama train CONFIG` begins a run; `llama train run --help` has its options. A configuration
    that has the name of a command is written ./NAME.
    """


for each in (init, run, *STEERING):
    train.add_command(each)
