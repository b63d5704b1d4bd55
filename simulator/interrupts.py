"""Ctrl-C and SIGTERM as exceptions that no library can swallow.

Python drops exceptions raised inside a destructor or a callback ("Exception ignored in ... KeyboardInterrupt"), and JAX
and Ray may turn them into other exceptions. The handler therefore raises and also remembers the signal, until it is
acknowledged; loops look for a remembered signal with `check`. While JAX is being imported it only remembers: an
exception inside of its C++ code would abort the process. Importing this module installs no handlers: these are
there only inside `raise_on_signals()`.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Terminated(KeyboardInterrupt):
    """A SIGTERM, which asks the process to end."""


EXCEPTIONS: dict[int, type[KeyboardInterrupt]] = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Terminated}

# Libraries that may not be interrupted while they are imported.
NATIVE = ("jax", "jaxlib", "flax", "ray")

# signals since `raise_on_signals()` began, and the one that is not acknowledged yet
_received: list[int] = []
_pending: list[int] = []


@contextmanager
def raise_on_signals() -> Iterator[None]:
    """Makes Ctrl-C and SIGTERM end the block, at any place of it; a second signal ends the process at once.

    Does nothing outside the main thread, the only one that Python delivers signals to.

    Raises:
        KeyboardInterrupt: For a Ctrl-C that was not acknowledged inside, at the latest at the end of the block.
        Terminated: The same for SIGTERM.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in EXCEPTIONS}
    hook = sys.unraisablehook

    def report(event: Any) -> None:
        # an interrupt that Python ignores is remembered, and needs no message
        if not issubclass(event.exc_type, KeyboardInterrupt):
            hook(event)

    _received.clear()
    _pending.clear()
    sys.unraisablehook = report
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
        # what is raised now is told by its type; whatever this process does next is not to end for it
        _pending.clear()


def pending() -> type[KeyboardInterrupt] | None:
    """The exception of a signal that was received and not acknowledged; None where there is none."""
    return EXCEPTIONS[_pending[0]] if _pending else None


def check() -> None:
    """Raises the exception of a signal that was received and not acknowledged; cheap enough for every loop."""
    if (kind := pending()) is not None:
        raise kind


def acknowledge() -> None:
    """Forgets the received signal, after its exception was caught: `check` raises nothing from now on."""
    _pending.clear()


def _receive(number: int, frame: Any) -> None:
    _received.append(number)
    if len(_received) > 1:
        os._exit(128 + number)
    _pending.append(number)
    if not _is_loading():
        raise EXCEPTIONS[number]


def _is_loading() -> bool:
    """True while one of the libraries with C++ code is being imported."""
    specs = (getattr(sys.modules.get(name), "__spec__", None) for name in NATIVE)
    return any(getattr(spec, "_initializing", False) for spec in specs)
