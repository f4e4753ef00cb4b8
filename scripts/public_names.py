"""Print every public name of holdfast, one a line; with --write, into the file the test compares with.

Public is what a package's `__init__.py` lists in `__all__`, and what a module at the root defines without an underscore. It is read
from the source text, so that it works on a tree that does not import.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "holdfast"
SNAPSHOT = ROOT / "tests" / "contracts" / "public_names.txt"


def listed(tree: ast.Module) -> list[str] | None:
    """The names in `__all__`, or None when there is none."""
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
            return [str(each) for each in ast.literal_eval(value)] if value is not None else []
    return None


def defined(tree: ast.Module) -> list[str]:
    """The functions and classes a module defines without an underscore; one with overloads once."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return list(dict.fromkeys(node.name for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_")))


def public_names(source: Path = SOURCE) -> list[str]:
    """Every public name, sorted, as `holdfast.module.name`."""
    return sorted(_names(source))


def _names(source: Path) -> Iterator[str]:
    for path in [*source.glob("*.py"), *source.glob("*/__init__.py")]:
        module = ".".join(["holdfast", *path.relative_to(source).with_suffix("").parts]).removesuffix(".__init__")
        if module.endswith("__main__"):
            continue
        tree = ast.parse(path.read_text("utf-8"))
        names = listed(tree)
        if names is None:
            names = [] if path.name == "__init__.py" else defined(tree)
        for name in names:
            yield f"{module}.{name}"


def main() -> None:
    """Print the names, or write them down with --write."""
    text = "".join(f"{name}\n" for name in public_names())
    if "--write" in sys.argv[1:]:
        SNAPSHOT.write_text(text, "utf-8")
        print(f"{SNAPSHOT.relative_to(ROOT)}: {text.count(chr(10))} names")
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
