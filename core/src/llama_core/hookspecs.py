"""Every hook, on one page: the only door between the core and a plugin.

Two kinds. *Providers* (`firstresult`) are answered by the one plugin that was asked for by kind and
name. They get the capability's name, its options, already validated against the schema that the
manifest declares, and `plugins`, through which to ask for the capabilities they require; they hand
over a plain object. *Listeners* are told of events their manifest lists, on a dispatcher thread. No
hook is called per token, layer or op.

An implementation may leave out arguments it does not need.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from llama_core import events
    from llama_core.contracts.architecture import Architecture
    from llama_core.contracts.backend import Backend
    from llama_core.contracts.command import Command
    from llama_core.contracts.drafter import Drafter
    from llama_core.contracts.format import Format
    from llama_core.contracts.launcher import Launcher
    from llama_core.contracts.machine import Machine
    from llama_core.contracts.model import ModelSource
    from llama_core.contracts.parallelism import Strategy
    from llama_core.contracts.postprocessor import Postprocessor
    from llama_core.contracts.preprocessor import Preprocessor
    from llama_core.contracts.program import ProgramProvider
    from llama_core.contracts.quantizer import Quantizer
    from llama_core.contracts.rewrite import Rewrite
    from llama_core.contracts.route import Route
    from llama_core.contracts.router import Router
    from llama_core.contracts.sampler import Sampler
    from llama_core.contracts.storage import Storage
    from llama_core.contracts.transform import Transform
    from llama_core.plugins import Plugins

PROJECT = "llama_core"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

Options = Mapping[str, Any]


# ---------------------------------------------------------------------------------------------
# Loading a model
# ---------------------------------------------------------------------------------------------


@hookspec(firstresult=True)
def llama_open_model(name: str, options: Options, plugins: Plugins) -> ModelSource | None:
    """Hand over the model that this plugin carries under `name`."""


@hookspec(firstresult=True)
def llama_create_format(name: str, options: Options, plugins: Plugins) -> Format | None:
    """Create the reader and writer of a file format."""


@hookspec(firstresult=True)
def llama_create_architecture(name: str, options: Options, plugins: Plugins) -> Architecture | None:
    """Create the builder of an architecture; `name` is the config's `model_type`."""


@hookspec(firstresult=True)
def llama_create_storage(name: str, options: Options, plugins: Plugins) -> Storage | None:
    """Create a store of checkpoints and data."""


# ---------------------------------------------------------------------------------------------
# Rewriting and compiling it
# ---------------------------------------------------------------------------------------------


@hookspec(firstresult=True)
def llama_create_rewrite(name: str, options: Options, plugins: Plugins) -> Rewrite | None:
    """Create a pure function from model to model."""


@hookspec(firstresult=True)
def llama_create_quantizer(name: str, options: Options, plugins: Plugins) -> Quantizer | None:
    """Create a quantizer."""


@hookspec(firstresult=True)
def llama_create_parallelism(name: str, options: Options, plugins: Plugins) -> Strategy | None:
    """Create a strategy that splits a model over ranks."""


@hookspec(firstresult=True)
def llama_create_backend(name: str, options: Options, plugins: Plugins) -> Backend | None:
    """Create a backend. Looking for devices belongs in `devices()`, not here."""


@hookspec(firstresult=True)
def llama_create_program(name: str, options: Options, plugins: Plugins) -> ProgramProvider | None:
    """Create a provider that opens models without a graph."""


# ---------------------------------------------------------------------------------------------
# Serving a request
# ---------------------------------------------------------------------------------------------


@hookspec(firstresult=True)
def llama_create_preprocessor(name: str, options: Options, plugins: Plugins) -> Preprocessor | None:
    """Create the preprocessor of one request."""


@hookspec(firstresult=True)
def llama_create_transform(name: str, options: Options, plugins: Plugins) -> Transform | None:
    """Create the transform of one request."""


@hookspec(firstresult=True)
def llama_create_sampler(name: str, options: Options, plugins: Plugins) -> Sampler | None:
    """Create the sampler of one request."""


@hookspec(firstresult=True)
def llama_create_postprocessor(
    name: str, options: Options, plugins: Plugins
) -> Postprocessor | None:
    """Create the postprocessor of one request."""


@hookspec(firstresult=True)
def llama_create_drafter(name: str, options: Options, plugins: Plugins) -> Drafter | None:
    """Create a drafter for one engine."""


@hookspec(firstresult=True)
def llama_create_router(name: str, options: Options, plugins: Plugins) -> Router | None:
    """Create a router over replicas."""


# ---------------------------------------------------------------------------------------------
# Around it: processes, machines, commands, routes
# ---------------------------------------------------------------------------------------------


@hookspec(firstresult=True)
def llama_create_launcher(name: str, options: Options, plugins: Plugins) -> Launcher | None:
    """Create a launcher of ranks."""


@hookspec(firstresult=True)
def llama_create_machine(name: str, options: Options, plugins: Plugins) -> Machine | None:
    """Create a recognizer of machines."""


@hookspec(firstresult=True)
def llama_add_command(name: str, options: Options, plugins: Plugins) -> Command | None:
    """Hand over the click command for `llama NAME`; `plugins.NAME` is `llama plugins NAME`."""


@hookspec(firstresult=True)
def llama_add_route(name: str, options: Options, plugins: Plugins) -> Route | None:
    """Hand over an ASGI application for a server to mount."""


# ---------------------------------------------------------------------------------------------
# Listening
# ---------------------------------------------------------------------------------------------


@hookspec
def llama_plugin_loaded(event: events.PluginLoaded) -> None:
    """A plugin was imported, checked and activated."""


@hookspec
def llama_plugin_failed(event: events.PluginFailed) -> None:
    """A plugin failed."""


@hookspec
def llama_model_loaded(event: events.ModelLoaded) -> None:
    """A model is ready to serve."""


@hookspec
def llama_model_unloaded(event: events.ModelUnloaded) -> None:
    """A model's memory was given back."""


@hookspec
def llama_request_queued(event: events.RequestQueued) -> None:
    """A request was accepted and waits."""


@hookspec
def llama_request_started(event: events.RequestStarted) -> None:
    """A request got its first place in a step."""


@hookspec
def llama_request_finished(event: events.RequestFinished) -> None:
    """A request ended by itself."""


@hookspec
def llama_request_cancelled(event: events.RequestCancelled) -> None:
    """A request was ended from outside."""


@hookspec
def llama_train_step(event: events.TrainStep) -> None:
    """An optimizer step was taken."""


@hookspec
def llama_checkpoint_written(event: events.CheckpointWritten) -> None:
    """A checkpoint is complete on its storage."""


@hookspec
def llama_shutdown(event: events.Shutdown) -> None:
    """The engine or trainer ends."""
