"""Routers and launchers."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import threading
import time
from typing import Any

from llama_core.contracts.launcher import Job
from llama_core.errors import LlamaError
from specimens.harness import specimen


@specimen("router")
class LeastBusy:
    def choose(self, arrival: Any, replicas: Any) -> Any:
        healthy = [i for i, one in enumerate(replicas) if one.healthy]
        return min(healthy, key=lambda i: replicas[i].num_running, default=None)


@specimen("router", "test_choice_is_a_healthy_replica")
class PrefersIdle(LeastBusy):
    def choose(self, arrival: Any, replicas: Any) -> Any:
        index = super().choose(arrival, replicas)
        idle = [i for i, one in enumerate(replicas) if one.num_running == 0]
        return idle[0] if index is not None and replicas[index].num_running and idle else index


@specimen("router", "test_none_where_none_is_healthy")
class TakesAny(LeastBusy):
    def choose(self, arrival: Any, replicas: Any) -> Any:
        index = super().choose(arrival, replicas)
        return 0 if index is None and len(replicas) == 3 and not replicas[0].kv_usage else index


@specimen("router", "test_idle_replica_is_taken")
class OftenFull(LeastBusy):
    def choose(self, arrival: Any, replicas: Any) -> Any:
        return None


@specimen("router", "test_is_deterministic")
class Draws(LeastBusy):
    def choose(self, arrival: Any, replicas: Any) -> Any:
        healthy = [i for i, one in enumerate(replicas) if one.healthy]
        return random.choice(healthy) if healthy else None


@specimen("router", "test_replicas_are_not_changed")
class Sorts(LeastBusy):
    def choose(self, arrival: Any, replicas: Any) -> Any:
        replicas.sort(key=lambda one: one.name, reverse=True)
        index = super().choose(arrival, replicas)
        replicas.reverse()
        index = None if index is None else len(replicas) - 1 - index
        replicas += replicas[:1]
        return index


@specimen("launcher")
class Local:
    """Runs the ranks as processes of this machine."""

    def launch(self, job: Job) -> Any:
        return Running(self, job)

    def start(self, job: Job, rank: int) -> subprocess.Popen[bytes]:
        place = {"RANK": str(rank), "WORLD_SIZE": str(job.num_ranks)}
        try:
            return subprocess.Popen(job.argv, env={**os.environ, **place, **job.env})
        except OSError as error:
            raise LlamaError(f"cannot start {job.argv[0]}: {error}") from error

    def codes(self, ranks: Any) -> tuple[int, ...]:
        return tuple(rank.returncode for rank in ranks)

    def kill(self, ranks: Any) -> None:
        for rank in ranks:
            with contextlib.suppress(OSError):
                rank.kill()
                rank.wait()

    def restarts(self, job: Job) -> int:
        return job.max_restarts


class Running:
    def __init__(self, launcher: Any, job: Job) -> None:
        self.launcher, self.job = launcher, job
        self.left = launcher.restarts(job)
        self.ranks = [launcher.start(job, rank) for rank in range(job.num_ranks)]
        self.stopped = threading.Event()

    def wait(self, timeout_seconds: float | None = None) -> Any:
        end = time.monotonic() + (1e9 if timeout_seconds is None else timeout_seconds)
        while True:
            if None not in [rank.poll() for rank in self.ranks]:  # ask each of them
                codes = self.launcher.codes(self.ranks)
                if not any(codes) or self.left == 0 or self.stopped.is_set():
                    return codes
                self.left -= 1
                self.ranks = [self.launcher.start(self.job, r) for r in range(self.job.num_ranks)]
            if time.monotonic() >= end:
                return self.launcher.late(self.ranks) if hasattr(self.launcher, "late") else None
            time.sleep(0.005)

    def stop(self, grace_seconds: float) -> None:
        self.stopped.set()
        for rank in self.ranks:
            if rank.poll() is None:
                rank.send_signal(signal.SIGTERM)
        self.wait(grace_seconds)
        self.launcher.kill([rank for rank in self.ranks if rank.poll() is None])


@specimen("launcher", "test_exit_codes_come_by_rank")
class SortsCodes(Local):
    def codes(self, ranks: Any) -> tuple[int, ...]:
        return tuple(sorted(super().codes(ranks), reverse=True))


@specimen("launcher", "test_ranks_know_their_place")
class WrongWorld(Local):
    def start(self, job: Job, rank: int) -> subprocess.Popen[bytes]:
        return super().start(Job(job.argv, 1, job.env), rank)


@specimen("launcher", "test_environment_is_passed_on")
class OwnEnvironment(Local):
    def start(self, job: Job, rank: int) -> subprocess.Popen[bytes]:
        return super().start(Job(job.argv, job.num_ranks), rank)


@specimen("launcher", "test_wait_can_time_out")
class GuessesWhenLate(Local):
    def late(self, ranks: Any) -> Any:
        return tuple(rank.returncode or 0 for rank in ranks) if len(ranks) == 1 else None


@specimen("launcher", "test_stop_ends_every_rank", watchdog_seconds=0.2)
class AsksOnly(Local):
    def kill(self, ranks: Any) -> None:
        threading.Timer(0.5, super().kill, [ranks]).start()  # so that the test leaves none behind


@specimen("launcher", "test_missing_program_is_said")
class LetsItThrough(Local):
    def start(self, job: Job, rank: int) -> subprocess.Popen[bytes]:
        place = {"RANK": str(rank), "WORLD_SIZE": str(job.num_ranks)}
        return subprocess.Popen(job.argv, env={**os.environ, **place, **job.env})


@specimen("launcher", "test_restarts_are_counted")
class NeverAgain(Local):
    def restarts(self, job: Job) -> int:
        return 0
