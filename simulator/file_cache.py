"""A cache of results in memory that notices when the files behind a result change."""

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
# A file may change twice within one tick of its file system's clock: one that changed more recently than this when it
# is read is compared by its content too.
SETTLED_NS = 2 * 10**9


class _Stamp(NamedTuple):
    """The state of a file or folder at one time.

    Attributes:
        state: Numbers of the file in the file system, or the names of the files that fit the pattern; None where there
            is no such file.
        content: Checksum of a file that had changed just before; None for others.
    """

    state: tuple[Any, ...] | None
    content: str | None = None


class Cached(Protocol[P, R]):
    """A function whose results are cached.

    Attributes:
        cache_clear: Drops all cached results.
    """

    cache_clear: Callable[[], None]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...


class _Read(NamedTuple):
    """A file or folder that a result depends on.

    Attributes:
        path: The file or folder.
        pattern: The result depends on which files of the folder fit this pattern; None without one.
    """

    path: Path
    pattern: str | None


class _Entry(NamedTuple):
    """A cached result.

    Attributes:
        value: The result.
        files: The files that it depends on, with their states.
    """

    value: Any
    files: dict[_Read, _Stamp]


# files that the result being computed depends on, each with its state before it was read
_files_read: ContextVar[dict[_Read, _Stamp] | None] = ContextVar("files_read", default=None)


def depends_on(path: Path, pattern: str | None = None) -> None:
    """Records that the result being computed depends on a file or folder. To be called before that is read.

    Args:
        path: The file or folder, which need not exist; of a folder only its existence counts.
        pattern: Records that the result depends on which files of the folder fit this pattern, as in `Path.glob`.
    """
    files, read = _files_read.get(), _Read(path, pattern)
    if files is not None and read not in files:
        files[read] = _stamp(read)


def file_cache(maxsize: int, key: Callable[..., Any] | None = None) -> Callable[[Callable[P, R]], Cached[P, R]]:
    """Caches the last results of a function that reads files.

    It is `functools.lru_cache`, but a result is computed again where one of the files changed that were passed to
    `depends_on` while it was computed, also by other cached functions that it called.

    Args:
        maxsize: Number of results that are cached.
        key: Maps the arguments to the key of the cache; None takes all arguments, which must be hashable.

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
                entry = entries.pop(by, None)
            files = None if entry is None else _unchanged(entry.files)
            if entry is None or files is None:
                files = {}
                token = _files_read.set(files)
                try:
                    value = function(*args, **kwargs)
                finally:
                    _files_read.reset(token)
            else:
                value = entry.value
            with lock:
                # the order of the dictionary is that of the last use
                entries[by] = _Entry(value, files)
                while len(entries) > maxsize:
                    del entries[next(iter(entries))]
            outer = _files_read.get()
            if outer is not None:
                for read, stamp in files.items():
                    outer.setdefault(read, stamp)
            return value

        clearable = cast(Cached[P, R], cached)
        clearable.cache_clear = entries.clear
        return clearable

    return decorate


def _unchanged(files: dict[_Read, _Stamp]) -> dict[_Read, _Stamp] | None:
    """The stamps of files where none has changed, else None."""
    now = {}
    for read, before in files.items():
        if _state(read) != before.state or (before.content is not None and _checksum(read.path) != before.content):
            return None
        # once its times are old enough to be trusted, the content of a file is not read again
        now[read] = before if before.content is None or _is_young(before.state) else _Stamp(before.state)
    return now


def _stamp(read: _Read) -> _Stamp:
    state = _state(read)
    return _Stamp(state, _checksum(read.path) if read.pattern is None and _is_young(state) else None)


def _is_young(state: tuple[Any, ...] | None) -> bool:
    """Tells whether a file changed so recently that another change might not show in its times."""
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
