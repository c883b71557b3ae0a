"""The process in which one side of the training benchmark runs, ours or a script: a line in for so
many steps, a line out for what they took.

    python -c "import train_child; train_child.serve()" '{"side": "eager", …}'

Ours is the trainer itself, with its feed, its guard and a report after every step; it is held
still in the callback that hears of a step.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any


class Steps:
    """Called after each step; where enough were done it answers, and waits for the next line."""

    def __init__(self, answers: Any) -> None:
        self._answers, self._left = answers, 1
        self._losses: list[float] = []
        self._began, self._cpu = time.perf_counter(), time.process_time()

    def __call__(self, loss: float, **more: Any) -> None:
        self._losses.append(loss)
        self._left -= 1
        if self._left:
            return
        found = {
            "seconds": time.perf_counter() - self._began,
            "cpu_seconds": time.process_time() - self._cpu,
            "losses": self._losses,
            **memory(),
            **more,
        }
        print(json.dumps(found), file=self._answers)
        forget_memory()
        line = sys.stdin.readline()
        if not line:
            os._exit(0)
        self._left, self._losses = int(json.loads(line)["steps"]), []
        self._began, self._cpu = time.perf_counter(), time.process_time()


def forget_memory() -> None:
    """Begin to count anew: what it took to find the best way to a first step is no step's."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    elif os.path.exists("/proc/self/clear_refs"):
        Path("/proc/self/clear_refs").write_text("5")


def memory() -> dict[str, int]:
    """The most that this process held since it last answered, in bytes."""
    import resource

    import torch

    if torch.cuda.is_available():
        return {"memory": torch.cuda.max_memory_allocated()}
    return {"memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def ours(job: dict[str, Any], tell: Callable[..., None]) -> None:
    from llama_plugin_train.loop.beginning import begin
    from llama_plugin_train.loop.commands import Commands
    from llama_plugin_train.loop.config import TrainConfig
    from llama_plugin_train.loop.events import Event, Step
    from llama_plugin_train.loop.rank import take_part

    config = TrainConfig.from_dict(job["config"])
    folder = Path(job["folder"])
    shape = config.decoder(job["model"]["vocab_size"])
    flops = shape.flops_per_token(config.data.length)

    def hear(event: Event) -> None:
        if isinstance(event, Step):
            tell(event.last_loss, flops=flops, utilization=event.utilization)

    if os.environ.get("RANK", "0") == "0":
        begin(config, folder).close()
    while not (folder / "run.json").is_file():
        time.sleep(0.05)
    take_part(folder, attend=lambda config, run: nullcontext((hear, Commands())))


def eager(job: dict[str, Any], tell: Callable[..., None]) -> None:
    from train_script import train

    train(job, tell, compiled=False)


def compiled(job: dict[str, Any], tell: Callable[..., None]) -> None:
    from train_script import train

    train(job, tell, compiled=True)


def transformers(job: dict[str, Any], tell: Callable[..., None]) -> None:
    """The library's own models under its own Trainer."""
    import numpy as np
    import torch
    import transformers as library

    c, rows, length = job["model"], job["rows"], job["length"]
    if c["gpt"]:
        shape: Any = library.GPT2Config(
            vocab_size=c["vocab_size"], n_embd=c["hidden_size"], n_layer=c["num_layers"],
            n_head=c["num_heads"], n_positions=c["max_positions"],
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        )  # fmt: skip
    else:
        sizes = ("vocab_size", "hidden_size", "intermediate_size")
        shape = library.LlamaConfig(
            **{name: c[name] for name in sizes}, num_hidden_layers=c["num_layers"],
            num_attention_heads=c["num_heads"], max_position_embeddings=c["max_positions"],
            tie_word_embeddings=True,
        )  # fmt: skip
    tokens = np.memmap(job["tokens"], np.uint16, "r")

    class Rows(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return (len(tokens) - 1) // length

        def __getitem__(self, at: int) -> dict[str, Any]:
            # It shifts labels itself, so a row's last token has no target here.
            row = torch.from_numpy(tokens[at * length : (at + 1) * length].astype(np.int64))
            return {"input_ids": row, "labels": row}

    class Told(library.Trainer):
        def training_step(self, *given: Any, **more: Any) -> Any:
            self.last = super().training_step(*given, **more)
            return self.last

        def _get_train_sampler(self, *_: Any) -> Any:
            return torch.utils.data.SequentialSampler(self.train_dataset)

    class Stepped(library.TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            tell(trainer.last.item())

    arguments = library.TrainingArguments(
        output_dir=job["folder"], per_device_train_batch_size=rows, max_steps=1 << 30,
        learning_rate=job["rate"], lr_scheduler_type="constant", weight_decay=0.1,
        adam_beta2=0.95, max_grad_norm=1.0, optim="adamw_torch_fused", report_to=[],
        logging_strategy="no", save_strategy="no", disable_tqdm=True, seed=job["seed"],
        use_cpu=job["device"] == "cpu", bf16=job["device"] == "cuda", dataloader_num_workers=0,
    )  # fmt: skip
    torch.manual_seed(job["seed"])
    model = library.AutoModelForCausalLM.from_config(shape)
    trainer = Told(model=model, args=arguments, train_dataset=Rows(), callbacks=[Stepped()])
    trainer.train()


SIDES: dict[str, Callable[[dict[str, Any], Callable[..., None]], None]] = {
    "ours": ours, "eager": eager, "compile": compiled, "transformers": transformers,
}  # fmt: skip


def serve() -> None:
    """Train the side that the job names; the first step is told without being asked for."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer
    job = json.loads(sys.argv[1])
    try:
        import torch

        torch.set_num_threads(job["threads"])
        SIDES[job["side"]](job, Steps(answers))
    except BaseException as error:
        said = (str(error).strip().splitlines() or ["no message"])[0]
        print(json.dumps({"error": f"{type(error).__name__}: {said}"}), file=answers)
        raise
