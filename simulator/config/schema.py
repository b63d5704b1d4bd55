"""The JSON Schema of a description, with all parts that can be named."""

from typing import Any

from pydantic import BaseModel

# The key of a placeholder, and the types that placeholders stand for.
_PART = "x-part"
_types: dict[str, type[BaseModel]] = {}


def schema_reference(name: str, described: type[BaseModel]) -> dict[str, Any]:
    """A placeholder for a type that many places of a schema name, which `json_schema` replaces by a reference.

    Args:
        name: The name of the type in `$defs`.
        described: The type.

    Returns:
        The placeholder.
    """
    _types[name] = described
    return {_PART: name}


def json_schema(description: type[BaseModel]) -> dict[str, Any]:
    """The JSON Schema of a description, with all parts that can be named. Each stands in `$defs` once.

    Args:
        description: The class, such as `Study`.

    Returns:
        The schema.
    """
    made = description.model_json_schema()
    defined: dict[str, Any] = made.setdefault("$defs", {})
    waiting: list[Any] = [made]

    def visit(node: Any) -> None:
        if isinstance(node, list):
            for each in node:
                visit(each)
        elif isinstance(node, dict):
            if (name := node.pop(_PART, None)) is not None:
                node["$ref"] = f"#/$defs/{name}"
                if name not in defined:
                    defined[name] = part = _types[name].model_json_schema()
                    for inner, schema in part.pop("$defs", {}).items():
                        if inner not in defined:
                            defined[inner] = schema
                            waiting.append(schema)
                    waiting.append(part)
            for each in [*node.values()]:
                visit(each)

    while waiting:
        visit(waiting.pop())
    return made
