"""Gossip in which nodes wait for some neighbours: who reads whom in which round, one message after the other."""

from collections.abc import Callable

NEVER = float("inf")


def heard(
    neighbours: list[list[int]],
    quorum: int,
    steps: int,
    computing: Callable[[int, int], float],
    arrival: Callable[[int, int, int, float], float],
    alive: Callable[[int], list[tuple[float, float]]],
) -> dict[tuple[int, int], tuple[float, float, set[int]]]:
    """The steps of each node in each round.

    Args:
        neighbours: Of each node.
        quorum: Number of neighbours that a node waits for, or all where it has fewer.
        steps: Number of rounds.
        computing: Seconds of a node's job of a round.
        arrival: The second at which a message of a round is there, by sender, receiver and the second of sending;
            `NEVER` for a lost one.
        alive: The spells of life of a node.

    Returns:
        By node and round: the second at which it sent its model, that at which it mixed, and whom it read beside
        itself. Nothing for a round of which it missed the job.
    """
    n = len(neighbours)
    done: dict[tuple[int, int], tuple[float, float, set[int]]] = {}
    free, away = [0.0] * n, [False] * n
    for t in range(steps):
        begins, sends = [NEVER] * n, [NEVER] * n
        for i in range(n):
            # the first second at which it lives and is done with the round before
            for born, dies in alive(i):
                if free[i] < dies:
                    begins[i] = max(born, free[i])
                    break
            sends[i] = begins[i] + computing(i, t)
        before = list(sends)
        for i in range(n):
            reach = [arrival(t, j, i, before[j]) for j in neighbours[i] if before[j] < NEVER]
            if away[i] and not any(begins[i] <= second < NEVER for second in reach):
                begins[i] = sends[i] = NEVER
        for i in range(n):
            killed = [dies for born, dies in alive(i) if born <= begins[i] < dies <= sends[i]]
            if killed:
                free[i], sends[i] = killed[0], NEVER
            away[i] = sends[i] == NEVER
        for i in range(n):
            if sends[i] == NEVER:
                continue
            ((born, dies),) = [spell for spell in alive(i) if spell[0] <= sends[i] < spell[1]]
            inbox = [(arrival(t, j, i, sends[j]), j) for j in neighbours[i] if sends[j] < NEVER]
            inbox = sorted(each for each in inbox if born <= each[0] < dies)
            needed = min(quorum, len(neighbours[i]))
            read = inbox[:needed] if len(inbox) >= needed else []
            now = max([sends[i], *(second for second, _ in read)])
            done[i, t] = sends[i], now, {j for _, j in read}
            free[i] = now
    return done
