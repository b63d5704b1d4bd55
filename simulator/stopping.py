"""The end of a run that cannot go on: whether it is reached, and the reason in words."""

from collections.abc import Mapping

from byzax.simulator.book import Book


def stuck(book: Book) -> bool:
    """Tells whether no worker that still works can bring the next update nearer, however many rows it sends.

    Found out after every second row of each at the latest, and at once where an attacker waits for just that.
    """
    if not book.arrivals or (book.arrivals % (2 * book.n) and not book.ready):
        return False
    byzantine, always = book.senders.workers, book.senders.timing.always
    open_ = (worker for worker, job in book.open.items() if job.answered)
    idle = (worker for worker in book.idle if always or worker not in byzantine)
    # a second row of a worker brings no update nearer; in a table, after its first update, no row waits
    return all(worker in book.waiting for worker in (*open_, *idle))


def why(book: Book, now: float) -> str:
    """The reason why no further update comes, in words."""
    numbers = sorted(book.dead)
    causes = [f"{_named(numbers)} died"] if numbers else []
    byzantine = book.senders.workers
    if byzantine and not book.senders.timing.always:
        attackers = _named(sorted(byzantine - book.dead))
        causes.append(
            f"{attackers} {'does' if len(byzantine) == 1 else 'do'} not answer (attack.timing {book.senders.name})"
        )
    return (
        f"stopped after {book.step} of {book.steps} updates, at {now:.6g} s: the next one waits for "
        f"{book.schedule.waits(book.board)}, and nothing more can come"
        + (f": {'; '.join(causes)}" if causes else "")
        + ": choose a smaller quorum or number of rows, another schedule, or fewer workers that fail"
    )


def lost_in_words(lost: Mapping[int, int], word: str = "worker") -> str:
    """`workers 3, 4 lost from update 161 on`, of workers and the places, from 0, of the first updates without them."""
    if not lost:
        return ""
    return f"{_named(sorted(lost), word)} lost from update {min(lost.values()) + 1} on"


def _named(nodes: list[int], word: str = "worker") -> str:
    listed = ", ".join(map(str, nodes[:8])) + (", ..." if len(nodes) > 8 else "")
    return f"{word} {listed}" if len(nodes) == 1 else f"{word}s {listed}"
