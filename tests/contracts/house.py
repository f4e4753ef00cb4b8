"""The rules of the house that import contracts cannot say, as functions from source text to complaints.

Owns the reading of source files for the tests beside it. A complaint is one line, `rule: what, at which line, what to do instead`.
What may never happen here: importing the code that is read. A rule must also hold for a file that does not import yet.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SOURCE = ROOT / "src" / "holdfast"
TESTS = ROOT / "tests"

# The plan of the house (docs/en/explanation/house.md): every module and package that may stand at the root.
MODULES = (
    "errors",
    "clock",
    "facts",
    "context",
    "handler",
    "tasks",
    "service",
    "config",
    "client",
    "server",
    "layers",
    "dialing",
    "program",
    "testing",
)
PACKAGES = (
    *("control", "framing", "net", "wire", "rpc", "policy", "balance", "guard", "observe", "runtime", "store", "sim", "calling"),
    *("adapt", "proxy", "admin", "tools", "cli"),
)

FILE_LINES_MAX = 450
FUNCTION_LINES_MAX = 60

Function = ast.FunctionDef | ast.AsyncFunctionDef


def source_files() -> list[Path]:
    """Every file of the library, in a fixed order."""
    return sorted(SOURCE.rglob("*.py"))


def name_of(path: Path) -> str:
    """`wire/frames.py` for a file of the library."""
    return path.relative_to(SOURCE).as_posix()


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


# ------------------------------------------------------------------------------------------------ what may not be written


def forbidden_uses(tree: ast.Module, file: str) -> Iterator[str]:
    """Everything in one file that the library may not use. `file` is its name inside the package: some rules have one home."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield from _forbidden_call(node, file)
        elif isinstance(node, ast.Attribute):
            yield from _forbidden_attribute(node)
        elif isinstance(node, ast.ImportFrom):
            yield from _forbidden_import(node)
    yield from _iterated_sets(tree)


def _forbidden_call(node: ast.Call, file: str) -> Iterator[str]:
    name = _called(node)
    if name in ("create_task", "ensure_future") and file != "tasks.py":
        yield f"bare task: {name} at line {node.lineno}; a task needs an owner, use tasks.Scope"
    if name in ("create_server", "create_unix_server"):
        yield f"accept loop: {name} at line {node.lineno}; net/listener.py accepts, so that limits and EMFILE are ours"
    if name in ("writelines", "wait_closed") and file.split("/")[0] in ("net", "wire", "rpc"):
        yield f"{name}: at line {node.lineno}; asyncio's differs between versions, write once per turn and track links ourselves"


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id if isinstance(node.func, ast.Name) else ""


STREAMS = ("open_connection", "start_server", "open_unix_connection", "start_unix_server", "StreamReader", "StreamWriter")


def _forbidden_attribute(node: ast.Attribute) -> Iterator[str]:
    if not isinstance(node.value, ast.Name):
        return
    whole = f"{node.value.id}.{node.attr}"
    if whole == "asyncio.wait_for":
        yield f"wait_for: at line {node.lineno}; it can lose a result and a cancellation, use asyncio.timeout or the wheel"
    if whole == "time.time":
        yield f"time.time: at line {node.lineno}; it jumps, use the Clock you were given"
    if node.value.id == "asyncio" and node.attr in STREAMS:
        yield f"asyncio streams: {whole} at line {node.lineno}; bytes arrive by callback, use net"


def _forbidden_import(node: ast.ImportFrom) -> Iterator[str]:
    names = [alias.name for alias in node.names]
    if node.module == "asyncio" and (bad := [name for name in names if name in ("wait_for", *STREAMS)]):
        yield f"asyncio streams: from asyncio import {', '.join(bad)} at line {node.lineno}"
    if node.module == "time" and "time" in names:
        yield f"time.time: from time import time at line {node.lineno}; use the Clock you were given"


def _iterated_sets(tree: ast.Module) -> Iterator[str]:
    """Loops over sets: their order differs from run to run. Known as a set: literals, set() and what is assigned or annotated so."""
    known = _names_of_sets(tree)
    for node in ast.walk(tree):
        iterated: ast.expr | None = None
        if isinstance(node, ast.For | ast.AsyncFor | ast.comprehension):
            iterated = node.iter
        elif isinstance(node, ast.Call) and _called(node) in ("list", "tuple", "iter", "enumerate") and node.args:
            iterated = node.args[0]
        if iterated is not None and (_makes_set(iterated) or _name(iterated) in known):
            yield f"set order: {ast.unparse(iterated)} is iterated at line {iterated.lineno}; use a dict, or sorted()"


def _names_of_sets(tree: ast.Module) -> list[str]:
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and _makes_set(node.value):
            names += [_name(target) for target in node.targets]
        elif isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation).split("[")[0] in ("set", "frozenset"):
            names.append(_name(node.target))
        elif isinstance(node, ast.arg) and node.annotation and ast.unparse(node.annotation).split("[")[0] in ("set", "frozenset"):
            names.append(node.arg)
    return [name for name in names if name]


def _makes_set(node: ast.expr) -> bool:
    is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("set", "frozenset")
    return is_call or isinstance(node, ast.Set | ast.SetComp)


def _name(node: ast.expr) -> str:
    return ast.unparse(node) if isinstance(node, ast.Name | ast.Attribute) else ""


# ---------------------------------------------------------------------------------------------------------- size and words


def functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, Function]]:
    """Every function with its dotted name, methods and nested ones included."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Function):
            yield prefix + node.name, node
            yield from functions(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.ClassDef):
            yield from functions(node, f"{prefix}{node.name}.")
        else:
            yield from functions(node, prefix)


def function_lines(node: Function) -> int:
    """Lines of a function without its docstring: explaining is never what makes one too long."""
    whole = (node.end_lineno or node.lineno) - node.lineno + 1
    first = node.body[0]
    if ast.get_docstring(node) is not None:
        whole -= (first.end_lineno or first.lineno) - first.lineno + 1
    return whole


def silent_about_cancel(tree: ast.Module) -> Iterator[str]:
    """Public coroutines whose docstring does not say what cancelling them loses."""
    for name, node in functions(tree):
        public = not any(part.startswith("_") for part in name.split("."))
        if isinstance(node, ast.AsyncFunctionDef) and public and "." not in _inside_function(tree, node):
            text = ast.get_docstring(node)
            if text is not None and "cancel" not in text.lower():
                yield f"{name} at line {node.lineno}: add `Cancel: what it loses` to its docstring"


def _inside_function(tree: ast.Module, node: Function) -> str:
    """ "." when the function stands inside another one, where nobody outside can call it."""
    for _, outer in functions(tree):
        if outer is not node and any(each is node for each in ast.walk(outer)):
            return "."
    return ""
