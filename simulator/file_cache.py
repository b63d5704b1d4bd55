"""Results that are kept in memory as long as the files they were made from stay what they were."""

import functools
import hashlib
import stat
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, Protocol, TypeVar, cast

P = ParamSpec("P")
R = TypeVar("R", covariant=True)
# A file may change twice within one tick of its file system's clock: one that is younger than this when it is read is
# told by its content too.
SETTLED_NS = 2 * 10**9


class _Stamp(NamedTuple):
    """The state of a file: its numbers in the file system, None where there is none; or the names that fit a pattern.

    `content`: checksum of a file that had been changed just before, else None.
    """

    state: tuple[Any, ...] | None
    content: str | None = None


class Cached(Protocol[P, R]):
    """A function whose results are kept; `cache_clear` lets go of them."""

    cache_clear: Callable[[], None]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...


class _Read(NamedTuple):
    """A file or folder, or, with a pattern, the files of a folder that fit it."""

    path: Path
    pattern: str | None


class _Entry(NamedTuple):
    value: Any
    files: dict[_Read, _Stamp]


# what was read for the result that is being made, each with its stamp before it was read
_files_read: ContextVar[dict[_Read, _Stamp] | None] = ContextVar("files_read", default=None)


def reads(path: Path, pattern: str | None = None) -> None:
    """Note that the result being made depends on this file or folder, there or not. To be called before it is read.

    Args:
        path: of the file; of a folder only whether it is there counts.
        pattern: the result depends on which files of the folder `path` fit this pattern, as in `Path.glob`.
    """
    files, read = _files_read.get(), _Read(path, pattern)
    if files is not None and read not in files:
        files[read] = _stamp(read)


def file_cache(maxsize: int, key: Callable[..., Any] | None = None) -> Callable[[Callable[P, R]], Cached[P, R]]:
    """Keep the last `maxsize` results of a function that reads files.

    As `functools.lru_cache`, but a result is made again where one of the files changed that were passed to `reads`
    while it was made, by other cached functions inside too.

    Args:
        maxsize: number of results that are kept.
        key: gives from the arguments what results are kept by; None takes all arguments, which must be hashable.

    Returns:
        A decorator.
    """

    def decorate(function: Callable[P, R]) -> Cached[P, R]:
        entries: dict[Any, _Entry] = {}
        lock = threading.Lock()

        @functools.wraps(function)
        def cached(*args: P.args, **kwargs: P.kwargs) -> R:
            by = key(*args, **kwargs) if key else (args, tuple(sorted(kwargs.items())))
            with lock:
                found = entries.pop(by, None)
            files = None if found is None else _unchanged(found.files)
            if found is None or files is None:
                files = {}
                token = _files_read.set(files)
                try:
                    value = function(*args, **kwargs)
                finally:
                    _files_read.reset(token)
            else:
                value = found.value
            with lock:
                # the last one used stands last
                entries[by] = _Entry(value, files)
                while len(entries) > maxsize:
                    del entries[next(iter(entries))]
            outer = _files_read.get()
            if outer is not None:
                for read, stamp in files.items():
                    outer.setdefault(read, stamp)
            return value

        made = cast(Cached[P, R], cached)
        made.cache_clear = entries.clear
        return made

    return decorate


def _unchanged(files: dict[_Read, _Stamp]) -> dict[_Read, _Stamp] | None:
    """The stamps of the same files, where none has changed: once a file has settled its content is not read again."""
    now = {}
    for read, before in files.items():
        if _state(read) != before.state or (before.content is not None and _checksum(read.path) != before.content):
            return None
        now[read] = before if before.content is None or _is_young(before.state) else _Stamp(before.state)
    return now


def _stamp(read: _Read) -> _Stamp:
    state = _state(read)
    return _Stamp(state, _checksum(read.path) if read.pattern is None and _is_young(state) else None)


def _is_young(state: tuple[Any, ...] | None) -> bool:
    """Whether a file was changed so shortly ago that another change might not show in its times."""
    return state is not None and len(state) > 2 and time.time_ns() - max(state[:2]) < SETTLED_NS


def _state(read: _Read) -> tuple[Any, ...] | None:
    try:
        if read.pattern is not None:
            return tuple(sorted(each.name for each in read.path.glob(read.pattern)))
        held = read.path.stat()
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(held.st_mode):
        return held.st_ino, held.st_dev
    return held.st_mtime_ns, held.st_ctime_ns, held.st_size, held.st_ino, held.st_dev


def _checksum(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
