"""Finding the files of a data set, fetching them once with a checksum, reading them with a word on what is wrong."""

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
from byzax.simulator.file_cache import reads
from byzax.simulator.mistakes import shown

WAY_OUT = "replace it (or delete it, if byzax downloaded it, to have it fetched again)"
ARCHIVES = (".tar.gz", ".tgz", ".zip")


class Fetch(NamedTuple):
    """A file on the web: its addresses, tried in this order, and its checksum. An archive is unpacked, all in one."""

    urls: tuple[str, ...]
    sha256: str


def find(
    name: str,
    files: Sequence[str],
    root: str | None,
    fetch: Mapping[str, Fetch] | None = None,
    *,
    inside: str = "",
    origin: str = "",
) -> Path:
    """The first folder that holds all files of the data set `name`.

    Looked at are `root`, if it is given, else $BYZAX_DATA, the cache folder, and at last the web. Of a file `a|b`
    either will do, `*` stands for any characters, and each may have .gz behind its name. `fetch`: what can be
    downloaded, by the name that it is kept under. `inside`: the folder in which an archive keeps the files. `origin`:
    where a person finds them. Raises DataError, which says what is missing where and what to do.
    """
    if root is not None:
        places = _places(name, root, f"data.root {root!r}")
        return _complete(places, files, inside) or _fail_missing(name, files, places, origin)
    shared = os.environ.get("BYZAX_DATA")
    cache = cache_folder() / "data" / name
    places = [*(_places(name, shared, f"$BYZAX_DATA ({shared})") if shared else []), cache]
    if (found := _complete(places, files, inside)) is not None:
        return found
    if not fetch:
        _fail_missing(name, files, places, origin)
    if failure := _download(cache, [file for file in files if path(cache, file) is None], fetch):
        _fail_missing(name, files, places, origin, failure)
    return cache


def path(folder: Path, file: str) -> Path | None:
    """Where a file of this name or pattern lies in a folder: the first, if there are several."""
    return next(iter(paths(folder, file)), None)


def paths(folder: Path, file: str) -> list[Path]:
    """All files of a folder with this name or pattern, in the order of their names."""
    for each in file.split("|"):
        for pattern in (each, f"{each}.gz"):
            reads(folder, pattern)
            if _is_folder(folder) and (found := sorted(place for place in folder.glob(pattern) if place.is_file())):
                return found
    return []


def given(name: str, option: str, file: str) -> Path:
    """A file or folder that a scenario names: as it is, else below $BYZAX_DATA. Raises DataError where it is not."""
    try:
        place = Path(file).expanduser()
    except RuntimeError:
        raise DataError(f"{name}: data.{option} {file!r}: there is no such user: write it without ~") from None
    shared = os.environ.get("BYZAX_DATA")
    places = [place, *([Path(shared, file)] if shared and not place.is_absolute() else [])]
    for each in places:
        reads(each)
        try:
            if each.is_file() or each.is_dir():
                return each
            if each.exists():
                raise DataError(f"{name}: data.{option} {file!r} is neither a file nor a folder")
        except (OSError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            reason = getattr(error, "strerror", None) or error
            raise DataError(f"{name}: data.{option} {shown(file)} cannot be looked for: {reason}") from None
    looked = " and ".join(str(each.absolute()) for each in places)
    raise DataError(f"{name}: data.{option} {file!r} is not there: looked for {looked}")


def content(place: Path) -> bytes:
    """The bytes of a file, unpacked if they are gzip (the content decides, not the name).

    Raises DataError, naming the file, where it cannot be read or is damaged.
    """
    reads(place)
    try:
        held = place.read_bytes()
        return gzip.decompress(held) if held[:2] == b"\x1f\x8b" else held
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{place} is a damaged or truncated gzip file ({error}): {WAY_OUT}") from error
    except MemoryError as error:
        raise DataError(f"{place} is larger, unpacked, than there is memory") from error
    except OSError as error:
        raise DataError(f"{place} cannot be read: {error.strerror or error}") from error


def text(place: Path) -> str:
    """The text of a file in UTF-8, gzip or not, without the mark that some programs put first. Raises DataError."""
    try:
        return content(place).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{place} is no text in UTF-8 (byte {error.start}): save it as UTF-8") from error


def listed(words: Iterable[str], last: str = "and") -> str:
    """`a, b and c`."""
    *most, final = words
    return f"{', '.join(most)} {last} {final}" if most else final


def _places(name: str, root: str, where: str) -> list[Path]:
    try:
        base = Path(root).expanduser()
    except RuntimeError:
        raise DataError(f"{name}: {where}: there is no such user: write the folder without ~") from None
    return [base, base / name]


def _complete(places: list[Path], files: Sequence[str], inside: str) -> Path | None:
    folders = [folder / below for folder in places for below in (("", inside) if inside else ("",))]
    return next((folder for folder in folders if all(path(folder, file) for file in files)), None)


def _is_folder(place: Path) -> bool:
    try:
        return place.is_dir()
    except (OSError, ValueError):
        # a name too long, a folder that may not be looked into
        return False


def _fail_missing(name: str, files: Sequence[str], places: list[Path], origin: str, failure: str = "") -> NoReturn:
    looked = [f"{folder} {_lacks(folder, files) if _is_folder(folder) else 'is no folder'}" for folder in places]
    download = f", and {failure}" if failure else ""
    raise DataError(
        f"{name}: files are missing: {'; '.join(looked)}{download}. Put {_named(files)} (each as it is or with .gz) "
        f"into {cache_folder() / 'data' / name}, or into a folder that data.root or $BYZAX_DATA names (or into its "
        f"sub-folder {name}){f'. {origin}' if origin else ''}"
    )


def _lacks(folder: Path, files: Sequence[str]) -> str:
    missing = [file for file in files if path(folder, file) is None]
    return "lacks all of them" if len(missing) == len(files) > 1 else f"lacks {_named(missing)}"


def _named(files: Iterable[str]) -> str:
    return listed(listed(file.split("|"), "or") for file in files)


def _download(cache: Path, missing: Sequence[str], fetch: Mapping[str, Fetch]) -> str:
    """Fetches what the cache lacks. Gives what failed, empty if nothing did."""
    # here, not above: only a first download needs it, and it brings an HTTP client along
    import pooch

    # a failed try is said once, with what to do
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
                failures.append(f"{url.removesuffix(f'/{kept}')}: {_why(error)}")
        else:
            return f"{kept} could not be downloaded ({'; '.join(failures)})"
    return ""


def _unpack(archive: Path) -> None:
    """All files of an archive beside it, without its folders; what is there already stays as it is."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as packed:
            for member in packed.infolist():
                if not member.is_dir():
                    _keep(packed.open(member), archive.parent / Path(member.filename).name)
    else:
        with tarfile.open(archive) as packed:
            for member in packed.getmembers():
                if member.isfile():
                    _keep(packed.extractfile(member), archive.parent / Path(member.name).name)


def _keep(source: Any, place: Path) -> None:
    # under its own name only when it is whole: who is interrupted finds no half file next time
    if os.path.lexists(place):
        return
    begun = place.with_name(f".{place.name}.part")
    # never into a file that a link leads to
    begun.unlink(missing_ok=True)
    with source, begun.open("xb") as target:
        shutil.copyfileobj(source, target)
    begun.replace(place)


def _why(error: Exception) -> str:
    response = getattr(error, "response", None)
    if response is not None:
        return f"{response.status_code} {response.reason}"
    if type(error) is ValueError:
        return "its checksum is not the published one"
    return str(error) if getattr(error, "strerror", None) else type(error).__name__
