"""Ctrl-C and SIGTERM: a handler that raises and remembers the signal, and the check by which loops see it.

Python drops what is raised inside a destructor or a callback ("Exception ignored in ... KeyboardInterrupt"), and JAX
and Ray may make another exception of it. A signal is therefore remembered until somebody says that it was `handled`.
Importing this changes nothing: only inside `heard()` are there handlers.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Terminated(KeyboardInterrupt):
    """The process was asked to end (SIGTERM)."""


EXCEPTIONS: dict[int, type[KeyboardInterrupt]] = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Terminated}

# signals that came since `heard()` began, and the one that nobody has handled yet
_received: list[int] = []
_pending: list[int] = []


@contextmanager
def heard() -> Iterator[None]:
    """Makes Ctrl-C and SIGTERM end what is inside, wherever they come; the second one ends the process at once.

    Does nothing outside the main thread, which alone is told of signals.

    Raises:
        KeyboardInterrupt: for a Ctrl-C that was not handled inside, at the latest at the end.
        Terminated: the same for SIGTERM.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in EXCEPTIONS}
    hook = sys.unraisablehook

    def quiet(event: Any) -> None:
        # what Python says it ignores is remembered
        if not issubclass(event.exc_type, KeyboardInterrupt):
            hook(event)

    _received.clear()
    _pending.clear()
    sys.unraisablehook = quiet
    for number in EXCEPTIONS:
        signal.signal(number, _receive)
    try:
        yield
        check()
    except KeyboardInterrupt as end:
        # whatever a signal raises while Ray waits comes out of Ray as a plain KeyboardInterrupt
        raise (pending() or end) from None
    except SystemExit as end:
        check()
        # a SIGTERM while Ray starts, which has a handler of its own
        raise (Terminated if end.code == signal.SIGTERM else end) from None
    except Exception:
        check()
        raise
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


def pending() -> type[KeyboardInterrupt] | None:
    """The exception for a signal that came and was not handled yet; None where there is none."""
    return EXCEPTIONS[_pending[0]] if _pending else None


def check() -> None:
    """For loops: raises for a signal that came and was lost on its way. Costs nothing worth measuring."""
    if (kind := pending()) is not None:
        raise kind


def handled() -> None:
    """For who has caught an interrupt and goes on to write what there is: `check` is silent from now on."""
    _pending.clear()


def _receive(number: int, frame: Any) -> None:
    _received.append(number)
    if len(_received) > 1:
        os._exit(128 + number)
    _pending.append(number)
    raise EXCEPTIONS[number]
