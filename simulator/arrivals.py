"""Changes of the book at each event of a worker, the same in virtual and in real time."""

from collections.abc import Callable, Iterator, Sequence

from byzax.simulator.book import Book, Job, end_job, leaving_table, over, renew_board
from byzax.simulator.grouping import heard_groups
from byzax.simulator.stopping import stuck
from byzax.simulator.timeline import Outcome
from byzax.simulator.timings import HeldRow, Reply

IN_TIME = Reply()


def start(book: Book, now: float) -> list[Job]:
    """Starts the run. Returns the jobs that idle workers begin, for the caller to carry out."""
    begun: list[Job] = []
    if over(book):
        return begun
    if book.order is not None:
        _ask(book, book.order, now, begun)
        return begun
    for worker in sorted(book.idle):
        if book.schedule.free(book.board, worker):
            _begin(book, worker, now, begun)
    return begun


def arrive(book: Book, worker: int, now: float) -> list[Job]:
    """Handles the arrival of a row. Returns the jobs that start as a result."""
    changed, attackers = False, []
    if book.ready and worker not in book.senders.workers:
        for attacker in _released(book, before_honest=True):
            attackers.append(attacker)
            changed |= _deliver(book, book.ready.pop(attacker), now)
            if over(book):
                return []
    if over(book):
        return []
    changed |= _deliver(book, book.open.pop(worker), now)
    return _go_on(book, [*attackers, worker], changed, now)


def held(book: Book) -> int | None:
    """The attacker that should send the row it holds back, where nothing else can happen; None where none helps."""
    useful = [attacker for attacker in book.ready if attacker not in book.waiting]
    useful = useful or ([] if stuck(book) else book.ready)
    return next(filter(book.computed, sorted(useful)), None)


def release(book: Book, attacker: int, now: float) -> list[Job]:
    """An attacker sends the row that it holds back."""
    changed = _deliver(book, book.ready.pop(attacker), now)
    return _go_on(book, [attacker], changed, now)


def lose(book: Book, worker: int, now: float) -> list[Job]:
    """The message with a row is lost."""
    end_job(book, book.open.pop(worker), Outcome.LOST, now)
    book.idle.add(worker)
    return _go_on(book, [worker], False, now)


def die(book: Book, worker: int, now: float) -> list[Job]:
    """A worker dies, with what it was at. Gives what another begins in its place."""
    book.dead.add(worker)
    book.idle.discard(worker)
    for jobs in (book.open, book.ready):
        if worker in jobs:
            end_job(book, jobs.pop(worker), Outcome.LOST, now)
    return [] if book.order is None else _go_on(book, [], False, now)


def vanish(book: Book, worker: int, now: float) -> list[Job]:
    """The process of a worker died, and maybe its machine: a row that waits for the next update is lost too."""
    book.lost.setdefault(worker, book.step)
    if worker in book.waiting:
        end_job(book, book.waiting.pop(worker), Outcome.LOST, now)
    return die(book, worker, now)


def back(book: Book, worker: int, now: float) -> list[Job]:
    """A dead worker is there again."""
    book.dead.discard(worker)
    book.idle.add(worker)
    return _go_on(book, [worker], False, now)


def suspect(book: Book, worker: int, now: float) -> list[Job]:
    """A worker that delivered nothing for too long no longer counts as slowest."""
    book.suspected.add(worker)
    moved = _uncount(book, book.clocks[worker])
    return _go_on(book, [worker], moved, now)


def _go_on(book: Book, workers: list[int], changed: bool, now: float) -> list[Job]:
    """The jobs that begin after an event at `workers`; where others may have become free (`changed`), at any worker."""
    begun: list[Job] = []
    if over(book):
        return begun
    # no row has come since an update: it was made just now
    if book.ready and not book.arrivals:
        released, moved = _release_all(book, now)
        workers, changed = [*workers, *released], changed or moved
    if book.order is not None:
        if not over(book):
            _ask(book, book.order, now, begun)
        return begun
    for each in sorted(book.idle) if changed else workers:
        if not over(book) and each in book.idle and book.schedule.free(book.board, each):
            _begin(book, each, now, begun)
    return begun


def _ask(book: Book, order: Callable[[int], Sequence[int]], now: float, begun: list[Job]) -> None:
    """Asks for rows until so many are on their way, in the order of this update."""
    of_now = [job for jobs in (book.open, book.ready) for job in jobs.values() if job.handed == book.step]
    missing = book.schedule.asked - len(book.waiting) - len(of_now)
    if missing <= 0:
        return
    turns = order(book.step)
    # of the Byzantine and of the honest workers so many are still wanted
    room = {True: missing, False: missing}
    if book.senders.participating is not None:
        byzantine = sum(worker in book.senders.workers for worker in (*book.waiting, *(job.worker for job in of_now)))
        room[True] = book.senders.participating - byzantine
        room[False] = missing - room[True]
    # those whose row was lost come after all that were not asked yet
    for again in (False, True):
        for worker in turns:
            is_byzantine = worker in book.senders.workers
            if (
                worker in book.idle
                and worker not in book.waiting
                and (worker in book.asked) == again
                and room[is_byzantine]
            ):
                _begin(book, worker, now, begun)
                missing -= worker not in book.idle
                room[is_byzantine] -= worker not in book.idle
                book.asked.add(worker)
                if not missing:
                    return


def _release_all(book: Book, now: float) -> tuple[list[int], bool]:
    """Byzantine workers send the rows that they need not hold any longer, one after the other.

    Returns these workers, and whether others may have become free.
    """
    sent: list[int] = []
    changed = False
    while not over(book):
        # what one sends may make an update, after which the others decide anew
        attacker = next(_released(book, before_honest=False), None)
        if attacker is None:
            break
        sent.append(attacker)
        changed |= _deliver(book, book.ready.pop(attacker), now)
    return sent, changed


def _released(book: Book, before_honest: bool) -> Iterator[int]:
    """Yields the workers that need not hold their rows any longer; each is asked when it is its turn."""
    release, oldest = book.senders.timing.release, book.schedule.oldest
    for attacker in sorted(book.ready):
        row = HeldRow(attacker, book.step - book.ready[attacker].handed, oldest, before_honest)
        if release(book.board, row) and book.computed(attacker):
            yield attacker


def _reply(book: Book, worker: int) -> Reply | None:
    """The reply of a worker to the job that it may begin; None where it does not take it up."""
    decide = book.senders.timing.reply
    if decide is None or worker not in book.senders.workers:
        return IN_TIME
    reply = decide(book.board, worker, book.replied.get(worker))
    if reply is not None:
        book.replied[worker] = book.step
    return reply


def _begin(book: Book, worker: int, now: float, begun: list[Job]) -> None:
    reply = _reply(book, worker)
    if reply is None:
        return
    job = Job(worker, book.numbers[worker], max(0, book.step - reply.older), book.step, now)
    book.numbers[worker] += 1
    book.idle.remove(worker)
    if reply.sent == "held":
        job.received_s = job.computed_s = now
        book.ready[worker] = job
        return
    book.open[worker] = job
    job.answered = reply.sent == "in_time"
    if job.answered:
        begun.append(job)


def _deliver(book: Book, job: Job, now: float) -> bool:
    """A row is there; gives whether other workers than its own may have become free."""
    worker, schedule = job.worker, book.schedule
    job.arrived_s = book.heard_s[worker] = now
    book.idle.add(worker)
    book.arrivals += 1
    moved = _tick(book, worker)
    if schedule.oldest is not None and book.step - job.handed > schedule.oldest:
        end_job(book, job, Outcome.DROPPED, now)
    elif worker not in book.waiting:
        book.waiting[worker] = job
    elif schedule.newest:
        end_job(book, book.waiting[worker], Outcome.DROPPED, now)
        book.waiting[worker] = job
    else:
        end_job(book, job, Outcome.DROPPED, now)
    if book.waiting and schedule.due(book.board):
        _update(book, now)
        moved |= not schedule.by_clock or not book.senders.timing.always
    return moved


def _update(book: Book, now: float) -> None:
    gone = leaving_table(book)
    book.leaving += [(book.step, worker) for worker in sorted(gone)]
    for worker in sorted(book.waiting):
        book.rows.add(book.waiting[worker])
        book.kept[worker] = book.waiting[worker].handed
    book.known |= book.waiting.keys()
    book.gone = (book.gone | gone) - book.waiting.keys()
    sees = book.schedule.sees
    book.seen.append(
        len(book.known) - len(book.gone)
        if sees == "table"
        else heard_groups(book.waiting, book.schedule.buckets, book.schedule.whole, book.n)
        if sees == "buckets"
        else len(book.waiting)
    )
    book.first.append(book.first[-1] + len(book.waiting))
    book.time_s.append(now)
    book.waiting = {}
    book.asked = set()
    book.step += 1
    book.arrivals = 0
    renew_board(book)


def _tick(book: Book, worker: int) -> bool:
    """The worker's clock goes on; gives whether the slowest one did."""
    clock = book.clocks[worker]
    book.clocks[worker] = clock + 1
    counted = worker not in book.suspected
    alone = not book.at_clock
    book.at_clock[clock + 1] = book.at_clock.get(clock + 1, 0) + 1
    if counted:
        return _uncount(book, clock)
    book.suspected.remove(worker)
    was = book.slowest
    book.slowest = clock + 1 if alone else min(was, clock + 1)
    return book.slowest > was


def _uncount(book: Book, clock: int) -> bool:
    """One worker less at this clock; gives whether the slowest clock went on."""
    was = book.slowest
    book.at_clock[clock] -= 1
    if not book.at_clock[clock]:
        del book.at_clock[clock]
        if not book.at_clock:
            # all are under suspicion, and count again
            book.slowest = min(book.clocks)
        elif clock == was:
            book.slowest = min(book.at_clock)
    return not book.at_clock or book.slowest > was
