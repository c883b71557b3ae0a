"""The rules of what places work: routers over replicas, launchers of ranks."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, ClassVar

from llama_core.contracts.launcher import Job
from llama_core.contracts.router import Arrival, Replica
from llama_core.errors import LlamaError
from llama_core.testing.suite import FreshObjects, Make, PluginContract
from llama_core.testing.verdict import check

WATCHDOG_SECONDS = 60.0


class RouterContract(FreshObjects, PluginContract):
    """What a router must keep to."""

    kind = "router"

    def test_choice_is_a_healthy_replica(self, make: Make) -> None:
        """It gives the index of a healthy replica, or None."""
        one = make()
        for arrival, replicas in _arrivals():
            index = one.choose(arrival, replicas)
            if index is None:
                continue
            fits = isinstance(index, int) and 0 <= index < len(replicas)
            check(fits, f"it chose {index!r} of {len(replicas)} replicas. Give an index or None.")
            check(replicas[index].healthy, "it chose a replica that is not healthy. Skip those.")

    def test_none_where_none_is_healthy(self, make: Make) -> None:
        """Without a healthy replica, and without any, it gives None."""
        sick = [Replica(f"r{i}", 0, 0, 0.0, healthy=False) for i in range(3)]
        for replicas in ([], sick):
            found = make().choose(Arrival("t", 5, None), replicas)
            check(found is None, f"it chose {found!r} where there is nothing to choose.")

    def test_idle_replica_is_taken(self, make: Make) -> None:
        """The only healthy replica, when idle, gets the request."""
        for place in range(3):
            replicas = [Replica(f"r{i}", 0, 0, 0.0, healthy=i == place) for i in range(3)]
            found = make().choose(Arrival("t", 5, b"hash"), replicas)
            check(found == place, f"it chose {found!r}, and only {place} is healthy, and idle.")

    def test_is_deterministic(self, make: Make) -> None:
        """The same arrivals in the same order are placed the same way by another object."""
        one, other = make(), make()
        choices = [[each.choose(*arrival) for arrival in _arrivals()] for each in (one, other)]
        check(
            choices[0] == choices[1],
            "two routers with the same history chose otherwise. Draw no random numbers, or seed "
            "them by an option; do not use hash() of text.",
        )

    def test_replicas_are_not_changed(self, make: Make) -> None:
        """The list of replicas is as it was."""
        one = make()
        for arrival, replicas in _arrivals():
            given = list(replicas)
            one.choose(arrival, given)
            check(given == replicas, "it changed the list of replicas. Sort a copy.")


def _arrivals() -> list[tuple[Arrival, list[Replica]]]:
    dice = Random(1)  # noqa: S311 - tests repeat themselves
    found = []
    for i in range(50):
        replicas = [
            Replica(
                f"r{j}", dice.randrange(9), dice.randrange(9), dice.random(), dice.random() > 0.4
            )
            for j in range(i % 6)
        ]
        prefix = dice.choice([None, b"one", b"two"])
        found.append((Arrival(f"tenant {i % 3}", dice.randrange(1, 999), prefix), replicas))
    return found


class LauncherContract(FreshObjects, PluginContract):
    """What a launcher must keep to. Ranks find their place in RANK and WORLD_SIZE."""

    kind = "launcher"
    watchdog_seconds: ClassVar[float] = 60.0

    def test_exit_codes_come_by_rank(self, make: Make) -> None:
        """`wait` gives one exit code a rank, in the order of the ranks."""
        codes = _run(make(), "import os, sys; sys.exit(3 + int(os.environ.get('RANK', 0)))", 3)
        check(codes == (3, 4, 5), f"ranks that exited with 3, 4, 5 came back as {codes}.")

    def test_ranks_know_their_place(self, make: Make, tmp_path: Path) -> None:
        """Each rank finds its number in RANK and how many there are in WORLD_SIZE."""
        write = "open(sys.argv[1] + '/' + os.environ['RANK'], 'w').write(os.environ['WORLD_SIZE'])"
        _run(make(), f"import os, sys; {write}", 2, str(tmp_path))
        found = {path.name: path.read_text() for path in tmp_path.iterdir()}
        check(
            found == {"0": "2", "1": "2"},
            f"two ranks read RANK and WORLD_SIZE as {found}. Set both for each rank.",
        )

    def test_environment_is_passed_on(self, make: Make) -> None:
        """The job's `env` reaches every rank, on top of what was there."""
        program = "import os, sys; sys.exit(0 if os.environ.get('LLAMA_TEST') == 'yes' else 7)"
        codes = _run(make(), program, 2, env={"LLAMA_TEST": "yes"})
        check(codes == (0, 0), f"the ranks did not see the job's env (exit codes {codes}).")

    def test_wait_can_time_out(self, make: Make) -> None:
        """`wait` gives None when the time runs out, and the job goes on."""
        running = make().launch(_job("import time; time.sleep(30)", 1))
        try:
            found = [running.wait(0.05), running.wait(0.0)]
        finally:
            running.stop(0.0)
        check(found == [None, None], f"wait(0.05) gave {found[0]} while the rank was running.")

    def test_stop_ends_every_rank(self, make: Make, tmp_path: Path) -> None:
        """`stop` ends all ranks, those too that ignore being asked, and may come twice."""
        program = (
            "import os, pathlib, signal, sys, time\n"
            "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
            "pathlib.Path(sys.argv[1], str(os.getpid())).touch()\n"
            "time.sleep(30)"
        )
        running = make().launch(_job(program, 2, str(tmp_path)))
        _until(lambda: len(list(tmp_path.iterdir())) == 2)
        running.stop(0.05)
        codes = running.wait(self.watchdog_seconds)
        running.stop(0.0)
        check(codes is not None, "a rank still runs after stop(0.05). Kill it after the grace.")
        check(0 not in (codes or ()), f"ranks that were ended have exit codes {codes}.")

    def test_missing_program_is_said(self, make: Make) -> None:
        """A program that is not there gives a LlamaError, or exit codes that are not 0."""
        try:
            codes = make().launch(Job(("/no/such/program",), 1)).wait(self.watchdog_seconds)
        except LlamaError:
            return
        except Exception as error:  # noqa: BLE001 - any other error is the finding
            what = f"{type(error).__name__}: {error}"
            check(False, f"launch() raised {what}. Raise a LlamaError that names the program.")
        else:
            check(codes and 0 not in codes, f"the program is not there, and it gave {codes}.")

    def test_restarts_are_counted(self, make: Make, tmp_path: Path) -> None:
        """A job that fails is started anew `max_restarts` times and no more often."""
        program = (
            "import pathlib, sys, uuid\n"
            "folder = pathlib.Path(sys.argv[1])\n"
            "(folder / uuid.uuid4().hex).touch()\n"
            "sys.exit(1 if len(list(folder.iterdir())) <= int(sys.argv[2]) else 0)"
        )
        for num_failures, most, code in ((1, 1, 0), (2, 1, 1), (1, 0, 1)):
            folder = tmp_path / f"{num_failures}-{most}"
            folder.mkdir()
            codes = _run(make(), program, 1, str(folder), str(num_failures), max_restarts=most)
            check(
                codes == (code,),
                f"a rank that fails {num_failures} times, with max_restarts={most}, came back as "
                f"{codes} and should give ({code},).",
            )


def _job(program: str, num_ranks: int, *args: str, **more: Any) -> Job:
    return Job((sys.executable, "-S", "-c", program, *args), num_ranks, **more)


def _run(
    launcher: Any, program: str, num_ranks: int, *args: str, **more: Any
) -> tuple[int, ...] | None:
    running = launcher.launch(_job(program, num_ranks, *args, **more))
    try:
        codes: tuple[int, ...] | None = running.wait(WATCHDOG_SECONDS)
    finally:
        running.stop(0.0)
    return codes if codes is None else tuple(codes)


def _until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + WATCHDOG_SECONDS
    while not holds() and time.monotonic() < end:
        time.sleep(0.01)
