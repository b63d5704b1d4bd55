"""Parts of pages that are made from the code: tables, keys of a scenario, entries of the API, files.

They stand between two comments, `<!-- table: rules -->` and `<!-- end -->`; besides `table` there are `options:
rules`, `keys`, `help: run`, `reproduction`, `attributes: byzax.simulator.diagnostics.Update`, `api: rules`, `note`
and `file: ARCHITECTURE.md`. `python docs/hooks.py` renews them, for readers of the repository; `--check` writes nothing
and names the pages that are not up to date. When mkdocs builds the site they are made anew, entries of the API and
files in full.
"""

import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
# the pages are of this checkout, whatever is installed; plug-ins of whoever builds the site are no part of byzax
sys.path.insert(0, str(ROOT / "src"))
os.environ.pop("BYZAX_PLUGINS", None)
MARKED = re.compile(r"^<!-- (\w+)(?:: ([\w./-]+))? -->\n(.*?)^<!-- end -->$", re.MULTILINE | re.DOTALL)

# figures that stand beside the scenario that they are of
FIGURE = re.compile(r"\]\(\.\./(experiments/[\w/-]+\.png)\)")
# outcomes and figures of byzax reproduce
MEASURED = "experiments/reproduction/measured"


def on_files(files: Any, config: Any, **_: Any) -> Any:
    """Adds figures from other folders of the repository to the site; mkdocs calls this once."""
    from mkdocs.structure.files import File

    pages = [ROOT / "docs" / page.src_uri for page in files.documentation_pages() if page.src_uri.endswith(".md")]
    named = {path for page in pages for path in FIGURE.findall(page.read_text(encoding="utf-8"))}
    measured = {path.relative_to(ROOT).as_posix() for path in (ROOT / MEASURED).glob("*/*.png")}
    for path in sorted(named | measured):
        files.append(File.generated(config, f"figures/{Path(path).name}", abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Makes the parts of a page from the code; mkdocs calls this for each page."""
    filled = MARKED.sub(lambda match: MAKERS[match[1]].for_site(match[2]), markdown)
    return FIGURE.sub(lambda match: f"](figures/{Path(match[1]).name})", filled)


def renew(page: Path) -> str:
    """The text of a page with its parts as the code makes them now, for readers of the repository."""

    def part(match: re.Match[str]) -> str:
        maker = MAKERS[match[1]]
        text = maker.for_repository(match[2], page) if maker.for_repository else maker.for_site(match[2])
        return f"<!-- {match[1]}{f': {match[2]}' if match[2] else ''} -->\n\n{text.strip()}\n\n<!-- end -->"

    return MARKED.sub(part, page.read_text(encoding="utf-8"))


def table(kind: str) -> str:
    """The table of a kind, such as `rules`, as `byzax list rules --markdown` prints it."""
    from byzax.experiments import listing

    lines = listing.markdown(kind).splitlines()
    return "\n".join([*lines[:2], *(_escaped(line) for line in lines[2:])])


def _escaped(line: str) -> str:
    # formulas hold signs of Markdown and of HTML; in code these stand for themselves
    return re.sub(r"(`[^`]*`)|(?<!\\)([*_<>\[\]])", lambda found: found[1] or f"\\{found[2]}", line)


def options(kind: str) -> str:
    """The options of all parts of a kind with their defaults, and the meaning of those that are null, as a table."""
    from byzax.experiments import listing

    factories = listing.functions(kind)[0]
    nulls = {name: listing.nulls(function) for name, function in factories.items()}
    columns = ["name", "options and defaults", *(["what null stands for"] if any(nulls.values()) else [])]
    lines = [_row(*columns), f"|{'---|' * len(columns)}"]
    for name, function in factories.items():
        written = ", ".join(f"`{option}`" for option in listing.options(function))
        said = "; ".join(f"`{option}`: {meaning}" for option, meaning in nulls[name].items())
        lines.append(_escaped(_row(*[f"`{name}`", written or "none", said][: len(columns)])))
    return "\n".join(lines)


def keys(_: str | None = None) -> str:
    """All keys of a scenario, from the JSON Schema of `Study`; options of single parts are in tables of their own."""
    from byzax.simulator.config.schema import json_schema
    from byzax.simulator.config.study import Study

    schema = json_schema(Study)
    lines = ["| key | value | default | what it is |", "|---|---|---|---|"]
    return "\n".join([*lines, *_keys(schema, schema["$defs"], "")])


def _keys(schema: Any, defined: Any, above: str) -> list[str]:
    lines = []
    for name, field in schema["properties"].items():
        # the name of a part says which it is; that of a study is a key
        if name == "name" and above:
            continue
        default = "required" if name in schema.get("required", []) else _default(field)
        described = field.get("description") or _described(field, defined)
        lines.append(_row(f"`{above}{name}`", _value(field, defined), default, described))
        for inner in _mappings(field, defined):
            chosen = inner["properties"].get("name", {}).get("const")
            # of one of several, such as executors, the name says whose keys these are
            lines += _keys(inner, defined, f"{above}{name}{f' ({chosen})' if chosen else ''}.")
        if not above:
            lines += _keys(_shared(field, defined), defined, f"{name}.")
    return lines


def _shared(field: Any, defined: Any) -> Any:
    """The settings that all parts of a kind have, such as `data.partition`, as a schema."""
    parts = [defined[name]["properties"] for name in _references(field) if "." in name]
    shared = set.intersection(*map(set, parts)) if parts else set()
    # of two optimizers or filters shared options are options all the same
    several = len(parts) > 2 and field.get("title") != "Optimizer"
    return {"properties": {name: parts[0][name] for name in parts[0] if name in shared} if several else {}}


def _mappings(field: Any, defined: Any) -> list[Any]:
    """The mappings that byzax itself describes among the values of a field; parts aside."""
    found = [defined[name] for name in _references(field) if "." not in name]
    inline = [each for each in [field, *field.get("anyOf", [])] if "properties" in each]
    items = _mappings(field["items"], defined) if "items" in field else []
    return [*found, *inline, *items]


def _references(field: Any) -> list[str]:
    found = [field["$ref"].removeprefix("#/$defs/")] if "$ref" in field else []
    return found + [name for inner in field.get("anyOf", []) for name in _references(inner)]


def _described(field: Any, defined: Any) -> str:
    whole = _mappings(field, defined)
    return whole[0].get("description", "").split("\n")[0] if len(whole) == 1 else ""


def _default(field: Any) -> str:
    from byzax.simulator.mistakes import on_one_line

    if "default" not in field:
        return "see the text"
    value = field["default"]
    return "its own defaults" if isinstance(value, dict) else f"`{on_one_line(value)}`"


def _value(field: Any, defined: Any) -> str:
    return " or ".join(dict.fromkeys(_values(field, defined)))


def _values(field: Any, defined: Any) -> list[str]:
    if "anyOf" in field:
        found = [each for inner in field["anyOf"] for each in _values(inner, defined)]
        # parts stand for themselves in the tables
        return [each for each in found if each]
    if "$ref" in field:
        name = field["$ref"].removeprefix("#/$defs/")
        return [PART if "." in name else "a mapping"]
    if "enum" in field:
        names = [f"`{each}`" for each in field["enum"]]
        # parts have tables of their own
        return [" or ".join(names)] if len(names) <= 6 else []
    if "const" in field:
        return [f"`{field['const']}`"]
    if "pattern" in field and "py" in field["pattern"]:
        return []
    kind = field.get("type")
    if kind == "array":
        return [f"a list of: {_value(field.get('items', {}), defined) or 'values'}"]
    words = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false"}
    words |= {"null": "`null`", "object": "a mapping"}
    bounds = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    limits = [f"{word} {field[bound]:,}" for bound, word in bounds.items() if bound in field]
    return [", ".join([words.get(kind, "any value"), *limits])]


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def api(kind: str) -> str:
    """An entry of the API for every part of a kind, from its docstring."""
    from byzax.experiments import listing

    entries = []
    for name, function in listing.functions(kind)[0].items():
        entries.append(f"::: {function.__module__}.{name}\n")
    return "\n".join(entries)


def api_files(kind: str, page: Path) -> str:
    """Links to the file of every part of a kind, which holds its docstring."""
    from byzax import members
    from byzax.experiments import listing

    files = {name: members.file_of(function) for name, function in listing.functions(kind)[0].items()}
    links = [f"[{name}]({_from_page(Path(file).resolve(), page)})" for name, file in files.items()]
    return f"The site (`make docs`) has the entries here. In the files: {', '.join(links)}."


def attributes(path: str) -> str:
    """The fields of a class, such as `byzax.simulator.diagnostics.Update`, as a table, from its docstring."""
    module, _, name = path.rpartition(".")
    text = inspect.cleandoc(getattr(importlib.import_module(module), name).__doc__).partition("Attributes:\n")[2]
    found = re.findall(r"^    (\w+): (.*(?:\n        .*)*)", text, re.MULTILINE)
    return "\n".join(
        ["| field | what it is |", "|---|---|", *(_row(f"`{key}`", " ".join(said.split())) for key, said in found)]
    )


PART = "a part: a name, `file.py:name`, or a mapping with `name` and options"
# files of the repository that are pages of the site
PAGES = {
    "ARCHITECTURE.md": "architecture.md",
    "CHANGELOG.md": "changes.md",
    "CONTRIBUTING.md": "contributing.md",
    "README.md": "index.md",
    "REPRODUCTION.md": "reproduced.md",
    "experiments/benchmarks/RESULTS.md": "benchmarks.md",
}


def file(path: str) -> str:
    """A Markdown file of the repository; of its links those to pages stay, as links of the site."""

    def on_site(match: re.Match[str]) -> str:
        text, target, anchor = match.groups(default="")
        if target.endswith(".png"):
            return f"[{text}](figures/{Path(target).name})"
        if re.match(r"https?:", target) or not target:
            return match[0]
        page = PAGES.get(target, target.removeprefix("docs/") if target.startswith("docs/") else "")
        return f"[{text}]({page}{anchor})" if page else text

    return re.sub(r"\[([^]\n]*)\]\(([^)#\s]*)(#[^)\s]*)?\)", on_site, (ROOT / path).read_text(encoding="utf-8"))


def file_link(path: str, page: Path) -> str:
    """A link to a file of the repository."""
    return f"[{path}]({_from_page(ROOT / path, page)})"


def _from_page(file: Path, page: Path) -> str:
    return Path(os.path.relpath(file, page.parent)).as_posix()


def reproduction(_: str | None) -> str:
    """The table and the sections of REPRODUCTION.md, of the outcomes in the repository."""
    from byzax.experiments.reproduction import document

    return document.document(ROOT / MEASURED, MEASURED)


def help(command: str) -> str:
    """The help text of a command, as `byzax COMMAND --help` prints it."""
    from typer.testing import CliRunner

    from byzax.experiments.cli import app

    environment = {"COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1"}
    shown = CliRunner().invoke(app, [*command.split("/"), "--help"], env=environment).output
    lines = [line.rstrip() for line in shown.strip().splitlines()]
    return "\n".join(["```text", *lines, "```"])


class Maker(NamedTuple):
    """A way to make a part of a page.

    Attributes:
        for_site: Makes it for the site, from the argument in its comment.
        for_repository: Makes it for readers of the repository, from the argument and the page; None where that is the
            same.
    """

    for_site: Callable[[Any], str]
    for_repository: Callable[[Any, Path], str] | None = None


def _nothing(_: str | None) -> str:
    return ""


def docstrings_note(_: str | None, page: Path) -> str:
    """The sentence on a page of the API for readers of the repository, which the site does not need."""
    return "The site (`make docs`) shows docstrings in place of the lines with `:::`; here they stand in the files."


MAKERS = {
    "table": Maker(table),
    "options": Maker(options),
    "keys": Maker(keys),
    "api": Maker(api, api_files),
    "note": Maker(_nothing, docstrings_note),
    "attributes": Maker(attributes),
    "file": Maker(file, file_link),
    "help": Maker(help),
    "reproduction": Maker(reproduction),
}


def main(arguments: list[str]) -> int:
    """Renews the pages; with `--check` only names those that are not up to date, and returns 1 where there are any."""
    texts = {page: renew(page) for page in [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "REPRODUCTION.md"]}
    old = [page for page, text in texts.items() if text != page.read_text(encoding="utf-8")]
    for page in old:
        if "--check" in arguments:
            print(f"{page.relative_to(ROOT)}: not up to date: python docs/hooks.py renews it")
        else:
            page.write_text(texts[page], encoding="utf-8")
    return int("--check" in arguments and bool(old))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
