"""The files of data sets: finding them, downloading them once with a checksum, reading them, and the errors of that."""

import gzip
import hashlib
import os
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from byzax.simulator.compilation import cache_folder
from byzax.simulator.data.base import DataError
from byzax.simulator.file_cache import depends_on
from byzax.simulator.mistakes import quote

WAY_OUT = "replace it (or delete it, if byzax downloaded it, to have it fetched again)"
ARCHIVES = (".tar.gz", ".tgz", ".zip")


class Fetch(NamedTuple):
    """A file that can be downloaded; an archive is unpacked.

    Attributes:
        urls: Addresses of the file, tried in this order.
        sha256: Checksum of the file.
    """

    urls: tuple[str, ...]
    sha256: str


def find_folder(
    name: str,
    files: Sequence[str],
    root: str | None,
    fetch: Mapping[str, Fetch] | None = None,
    *,
    inside: str = "",
    origin: str = "",
) -> Path:
    """Finds the folder that holds all files of a data set: `root` where it is given, else $BYZAX_DATA or the cache.

    Files that are missing everywhere are downloaded into the cache folder where that is possible.

    Args:
        name: Name of the data set, which is the name of its sub-folder too.
        files: Names of the files. `a|b` stands for either of two, `*` for any characters; every file may have .gz
            behind its name.
        root: The only folder to look in; None looks in all places.
        fetch: Files that can be downloaded, by the names that they are kept under.
        inside: Folder in which an archive keeps the files, which is looked in too.
        origin: A sentence that says where a person finds the files.

    Returns:
        The first folder that holds all files.

    Raises:
        DataError: Where there is none; the message says what is missing where and what to do.
    """
    if root is not None:
        places = _candidates(name, root, f"data.root {root!r}")
        return _first_complete(places, files, inside) or _fail_missing(name, files, places, origin)
    shared = os.environ.get("BYZAX_DATA")
    cache = cache_folder() / "data" / name
    places = [*(_candidates(name, shared, f"$BYZAX_DATA ({shared})") if shared else []), cache]
    if (found := _first_complete(places, files, inside)) is not None:
        return found
    if not fetch:
        _fail_missing(name, files, places, origin)
    if failure := _download(cache, [file for file in files if find_file(cache, file) is None], fetch):
        _fail_missing(name, files, places, origin, failure)
    return cache


def find_file(folder: Path, file: str) -> Path | None:
    """The first file of a folder with this name or pattern (see `find_folder`); None where there is none."""
    return next(iter(find_files(folder, file)), None)


def find_files(folder: Path, file: str) -> list[Path]:
    """All files of a folder with this name or pattern (see `find_folder`), in the order of their names."""
    for each in file.split("|"):
        for pattern in (each, f"{each}.gz"):
            depends_on(folder, pattern)
            if _is_folder(folder) and (found := sorted(place for place in folder.glob(pattern) if place.is_file())):
                return found
    return []


def find_named(name: str, option: str, file: str) -> Path:
    """Finds a file or folder that a scenario names, from the working directory on, else below $BYZAX_DATA.

    Args:
        name: Name of the data set, for messages.
        option: Name of the option, for messages.
        file: Path of the file or folder.

    Returns:
        The path.

    Raises:
        DataError: Where there is no such file or folder.
    """
    try:
        place = Path(file).expanduser()
    except RuntimeError:
        raise DataError(f"{name}: data.{option} {file!r}: there is no such user: write it without ~") from None
    shared = os.environ.get("BYZAX_DATA")
    places = [place, *([Path(os.path.expanduser(shared), file)] if shared and not place.is_absolute() else [])]
    for each in places:
        depends_on(each)
        try:
            if each.is_file() or each.is_dir():
                return each
            if each.exists():
                raise DataError(f"{name}: data.{option} {file!r} is neither a file nor a folder")
        except (OSError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            reason = getattr(error, "strerror", None) or error
            raise DataError(f"{name}: data.{option} {quote(file)} cannot be looked for: {reason}") from None
    looked = " and ".join(str(each.absolute()) for each in places)
    raise DataError(f"{name}: data.{option} {file!r} is not there: looked for {looked}")


def read_bytes(place: Path) -> bytes:
    """Reads a file, and unpacks it if its content (not its name) is gzip.

    Args:
        place: Path of the file.

    Returns:
        The bytes.

    Raises:
        DataError: Where the file cannot be read or is damaged.
    """
    depends_on(place)
    try:
        content = place.read_bytes()
        return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{place} is a damaged or truncated gzip file ({error}): {WAY_OUT}") from error
    except MemoryError as error:
        raise DataError(f"{place} is larger, unpacked, than there is memory") from error
    except OSError as error:
        raise DataError(f"{place} cannot be read: {error.strerror or error}") from error


def read_text(place: Path) -> str:
    """Reads a text file in UTF-8, gzip or not.

    Args:
        place: Path of the file.

    Returns:
        The text, without the byte order mark that some programs put first.

    Raises:
        DataError: Where the file cannot be read, is damaged, or is not UTF-8.
    """
    try:
        return read_bytes(place).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{place} is no text in UTF-8 (byte {error.start}): save it as UTF-8") from error


def join_words(words: Iterable[str], last: str = "and") -> str:
    """Joins words with commas, the last two with `last`.

    Example:
        >>> join_words(["a", "b", "c"])
        'a, b and c'
    """
    *most, final = words
    return f"{', '.join(most)} {last} {final}" if most else final


def _candidates(name: str, root: str, where: str) -> list[Path]:
    try:
        base = Path(root).expanduser()
    except RuntimeError:
        raise DataError(f"{name}: {where}: there is no such user: write the folder without ~") from None
    return [base, base / name]


def _first_complete(places: list[Path], files: Sequence[str], inside: str) -> Path | None:
    folders = [folder / below for folder in places for below in (("", inside) if inside else ("",))]
    return next((folder for folder in folders if all(find_file(folder, file) for file in files)), None)


def _is_folder(place: Path) -> bool:
    try:
        return place.is_dir()
    except (OSError, ValueError):
        # a name too long, a folder that may not be looked into
        return False


def _fail_missing(name: str, files: Sequence[str], places: list[Path], origin: str, failure: str = "") -> NoReturn:
    looked = [
        f"{folder} {_describe_missing(folder, files) if _is_folder(folder) else 'is no folder'}" for folder in places
    ]
    download = f", and {failure}" if failure else ""
    raise DataError(
        f"{name}: files are missing: {'; '.join(looked)}{download}. Put {_join_names(files)} (each as it is or with "
        f".gz) into {cache_folder() / 'data' / name}, or into a folder that data.root or $BYZAX_DATA names (or into "
        f"its sub-folder {name}){f'. {origin}' if origin else ''}"
    )


def _describe_missing(folder: Path, files: Sequence[str]) -> str:
    missing = [file for file in files if find_file(folder, file) is None]
    return "lacks all of them" if len(missing) == len(files) > 1 else f"lacks {_join_names(missing)}"


def _join_names(files: Iterable[str]) -> str:
    return join_words(join_words(file.split("|"), "or") for file in files)


def _download(cache: Path, missing: Sequence[str], fetch: Mapping[str, Fetch]) -> str:
    """Downloads the files that the cache lacks; returns what failed, in words, or an empty text."""
    # here, not above: only a first download needs it, and it imports an HTTP client
    import pooch

    # a failed attempt is reported once, by the caller, with the way out
    pooch.get_logger().setLevel("WARNING")
    wanted = [next((kept for kept in (file, f"{file}.gz") if kept in fetch), next(iter(fetch))) for file in missing]
    for kept in dict.fromkeys(wanted):
        failures = []
        had = (cache / kept).exists()
        if had and hashlib.sha256((cache / kept).read_bytes()).hexdigest() != fetch[kept].sha256:
            return f"{cache / kept} is there, and its checksum is not the published one: remove it"
        for url in fetch[kept].urls:
            try:
                pooch.retrieve(
                    url,
                    known_hash=f"sha256:{fetch[kept].sha256}",
                    fname=kept,
                    path=cache,
                    downloader=pooch.HTTPDownloader(timeout=15),  # pyright: ignore[reportArgumentType]
                )
                if kept.endswith(ARCHIVES):
                    _unpack(cache / kept)
                    if not had:
                        (cache / kept).unlink()
                break
            except Exception as error:  # whatever the HTTP client raises, a person offline needs the same help
                failures.append(f"{url.removesuffix(f'/{kept}')}: {_describe_failure(error)}")
        else:
            return f"{kept} could not be downloaded ({'; '.join(failures)})"
    return ""


def _unpack(archive: Path) -> None:
    """Extracts all files of an archive beside it, without its folders; files that are there already stay."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as packed:
            for member in packed.infolist():
                if not member.is_dir():
                    _extract(packed.open(member), archive.parent / Path(member.filename).name)
    else:
        with tarfile.open(archive) as packed:
            for member in packed.getmembers():
                if member.isfile():
                    _extract(packed.extractfile(member), archive.parent / Path(member.name).name)


def _extract(source: Any, place: Path) -> None:
    # under its own name only when it is whole: an interrupt leaves no half file behind
    if os.path.lexists(place):
        return
    begun = place.with_name(f".{place.name}.part")
    # a link that somebody put here would be written through
    begun.unlink(missing_ok=True)
    with source, begun.open("xb") as target:
        shutil.copyfileobj(source, target)
    begun.replace(place)


def _describe_failure(error: Exception) -> str:
    response = getattr(error, "response", None)
    if response is not None:
        return f"{response.status_code} {response.reason}"
    if type(error) is ValueError:
        return "its checksum is not the published one"
    return str(error) if getattr(error, "strerror", None) else type(error).__name__
