"""A process that executes runs of a study for another one: `python -m byzax.experiments.run_process FD ...`."""

import os
import queue
import sys
import threading
from multiprocessing.connection import Connection
from typing import Any

from byzax.experiments.entries import Entry
from byzax.experiments.progress import Report
from byzax.experiments.run_groups import RunGroup
from byzax.experiments.running import execute_groups
from byzax.experiments.writing import WriteError
from byzax.simulator import interrupts, threads
from byzax.simulator.config.base import parse_as
from byzax.simulator.config.executors import devices_of
from byzax.simulator.config.study import Study
from byzax.simulator.executors import Checkpoint


def main(fd: int, hidden: list[str]) -> None:
    """Executes groups as they come, until there are no more, and tells of their progress.

    Args:
        fd: Number of the connection to the process that runs the study.
        hidden: Fields of the evaluations that are not written.
    """
    connection = Connection(fd)
    groups: queue.SimpleQueue[RunGroup | None] = queue.SimpleQueue()

    def receive() -> None:
        try:
            while True:
                groups.put(connection.recv())
        except (EOFError, OSError):
            # nobody holds the folder of the study any more: another process may write there the next moment
            os._exit(1)

    def send(kind: str, value: Any) -> None:
        connection.send((kind, value))

    def slim(run: Entry, checkpoint: Checkpoint) -> tuple[int, Checkpoint]:
        shown = checkpoint._replace(timeline=None, weights=None, recorded=(), params=checkpoint.params[:0])
        return run.scenario.seed, shown._replace(updates=checkpoint.updates._make([None] * len(checkpoint.updates)))

    report = Report(
        starting=lambda executor: None,
        begin=lambda some, steps: send("begin", None),
        advance=lambda run, checkpoint: send("advance", slim(run, checkpoint)),
        done=lambda run, checkpoint: send("done", slim(run, checkpoint)),
        failed=lambda run, reason: send("failed", (run.scenario.seed, reason)),
        notice=lambda text: send("notice", text),
    )
    threading.Thread(target=receive, daemon=True).start()
    try:
        with interrupts.raise_on_signals():
            while (group := groups.get()) is not None:
                parsed = _parsed(group)
                # before anybody else does: a mesh needs its devices
                threads.start(devices_of(parsed.scenario.executor))
                send("ended", execute_groups([parsed], None, report, hidden))
    except KeyboardInterrupt:
        pass
    except WriteError as error:
        send("cannot write", str(error))


def _parsed(group: RunGroup) -> RunGroup:
    """A group with its scenarios, which came as mappings."""

    def parsed(mapping: Any) -> Study:
        return parse_as(Study, mapping)

    runs = {seed: run._replace(scenario=parsed(run.scenario)) for seed, run in group.runs.items()}
    return group._replace(scenario=parsed(group.scenario), runs=runs)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
    sys.stdout.flush()
    sys.stderr.flush()
    # threads of XLA may be at work after an interrupt
    os._exit(0)
