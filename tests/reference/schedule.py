"""The rows of each update, from how long each job of each worker takes: every schedule in a few lines."""

import heapq
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple


class Row(NamedTuple):
    """One row of an update: job number `job` of `worker`, computed from the model after `version` updates."""

    worker: int
    job: int
    version: int


class Policy(NamedTuple):
    """The decisions of a schedule. `waiting` maps workers to the `Row` that waits for the next update.

    `due(waiting, heard)`: whether these rows make an update, `heard` the workers that were in one before.
    `free(clocks, worker, waiting)`: whether an idle worker may begin a job. `oldest`: the largest age of a row that is
    not dropped. `newest`: of two rows of one worker the second counts and not the first.
    """

    due: Callable[[dict[int, Row], set[int]], bool]
    free: Callable[[list[int], int, dict[int, Row]], bool] = lambda clocks, worker, waiting: True
    oldest: float = float("inf")
    newest: bool = False


def policy(schedule: dict[str, Any], n: int, f: int) -> Policy:
    """The decisions of `schedule`, a mapping with `name` and options as in a scenario."""
    given = {"quorum": "all", "apply": "table", "rows": 10, "max_age": None, "bound": 3, "buckets": None, **schedule}
    oldest = float("inf") if given["max_age"] is None else given["max_age"]
    if given["name"] == "synchronous" or (given["name"] == "stale_synchronous" and given["bound"] == 0):
        quorum = {"all": n, "n-f": n - f}.get(given["quorum"], given["quorum"])
        return Policy(
            lambda waiting, heard: len(waiting) == quorum, lambda clocks, worker, waiting: worker not in waiting, 0
        )
    if given["name"] == "basgd":
        buckets = given["buckets"] or 2 * f + 1
        return Policy(lambda waiting, heard: len({worker % buckets for worker in waiting}) == buckets, oldest=oldest)
    due, newest = {
        # the first update of a table has a row of every worker
        "table": (lambda waiting, heard: len(heard | waiting.keys()) == n, True),
        "buffer": (lambda waiting, heard: len(waiting) == given["rows"], False),
        "each": (lambda waiting, heard: True, False),
    }[given["apply"]]
    if given["name"] == "asynchronous":
        return Policy(due, oldest=oldest, newest=newest)
    assert given["name"] == "stale_synchronous"
    bound = given["bound"]
    return Policy(due, lambda clocks, worker, waiting: clocks[worker] - min(clocks) <= bound, oldest, newest)


def updates(decide: Policy, n: int, steps: int, seconds: Callable[[int], Iterator[float]]) -> list[list[Row]]:
    """The rows of each of `steps` updates, by worker; the jobs of worker i take what `seconds(i)` yields."""
    spans = [seconds(worker) for worker in range(n)]
    begun, clocks, idle, heard = [0] * n, [0] * n, set(range(n)), set()
    waiting: dict[int, Row] = {}
    under_way: list[tuple[float, Row]] = []
    made: list[list[Row]] = []
    now = 0.0
    while len(made) < steps:
        for worker in sorted(idle):
            if decide.free(clocks, worker, waiting):
                idle.remove(worker)
                heapq.heappush(under_way, (now + next(spans[worker]), Row(worker, begun[worker], len(made))))
                begun[worker] += 1
        now, row = heapq.heappop(under_way)
        idle.add(row.worker)
        clocks[row.worker] += 1
        if len(made) - row.version <= decide.oldest and (decide.newest or row.worker not in waiting):
            waiting[row.worker] = row
        if waiting and decide.due(waiting, heard):
            made.append([waiting[worker] for worker in sorted(waiting)])
            heard |= waiting.keys()
            waiting = {}
    return made
