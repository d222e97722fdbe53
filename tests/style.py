"""Reads Python files and measures what the house rules (docs/rules.md) bound. Nothing is imported or run."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
ESCAPE = re.compile(r"#\s*(type:\s*ignore|noqa|pragma)")


@dataclass(frozen=True)
class Function:
    """One function or method, nested ones too. `length` in lines without its docstring; `parameters` with self."""

    where: str
    length: int
    parameters: int
    typed: bool


@dataclass(frozen=True)
class Source:
    """One parsed file."""

    path: Path
    text: str
    tree: ast.Module

    @property
    def lines(self) -> int:
        """Physical lines."""
        return self.text.count("\n")

    @property
    def escapes(self) -> int:
        """Comments that silence a checker."""
        return len(ESCAPE.findall(self.text))

    def functions(self) -> Iterator[Function]:
        """Every function in the file."""
        for node in ast.walk(self.tree):
            if isinstance(node, FunctionNode):
                length = (node.end_lineno or node.lineno) - node.lineno + 1 - docstring_lines(node)
                args = node.args
                count = len(args.posonlyargs + args.args + args.kwonlyargs)
                yield Function(f"{self.path}:{node.lineno} {node.name}", length, count, is_typed(node))

    def undocumented(self) -> Iterator[str]:
        """Public classes, functions and methods without a docstring, and the module itself."""
        if not ast.get_docstring(self.tree):
            yield f"{self.path}:1"
        yield from (f"{self.path}:{node.lineno} {node.name}" for node in public(self.tree) if not ast.get_docstring(node))

    def imports(self) -> Iterator[str]:
        """Dotted names imported at module level; `from a import b` gives `a.b`. Imports for type checkers are left out."""
        yield from imported(self.tree)


def read(folder: Path) -> Iterator[Source]:
    """Every Python file under `folder`."""
    for path in sorted(path for path in folder.rglob("*.py") if not path.name.endswith("_pb2.py")):
        text = path.read_text(encoding="utf-8")
        yield Source(path, text, ast.parse(text))


def docstring_lines(node: FunctionNode) -> int:
    """Lines that the docstring of a function takes; 0 without one."""
    first = node.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        return (first.end_lineno or first.lineno) - first.lineno + 1
    return 0


def is_typed(node: FunctionNode) -> bool:
    """Whether every parameter (but self and cls) and the return value is annotated."""
    args = node.args
    positional = args.posonlyargs + args.args
    if positional and positional[0].arg in {"self", "cls"}:
        positional = positional[1:]
    every = [*positional, *args.kwonlyargs, *(extra for extra in (args.vararg, args.kwarg) if extra)]
    return node.returns is not None and all(argument.annotation for argument in every)


def public(node: ast.AST) -> Iterator[FunctionNode | ast.ClassDef]:
    """Public definitions right under `node`, and those inside its public classes; overloads are left out."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If | ast.Try):
            yield from public(child)
        if not isinstance(child, ast.ClassDef | FunctionNode) or child.name.startswith("_"):
            continue
        if any(ast.unparse(decorator).endswith("overload") for decorator in child.decorator_list):
            continue
        yield child
        if isinstance(child, ast.ClassDef):
            yield from public(child)


def imported(node: ast.AST) -> Iterator[str]:
    """Names imported under `node`, functions and `if TYPE_CHECKING` blocks left out."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, FunctionNode) or (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)):
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        else:
            yield from imported(child)


def module_name(path: Path, root: Path) -> str:
    """The dotted name of a file below `root`."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Rings of imports, each as the modules along it; found by walking every module's imports once."""
    done: set[str] = set()
    found: list[list[str]] = []

    def walk(module: str, road: list[str]) -> None:
        if module in road:
            found.append([*road[road.index(module) :], module])
            return
        if module in done:
            return
        for target in sorted(graph[module]):
            walk(target, [*road, module])
        done.add(module)

    for module in sorted(graph):
        walk(module, [])
    return found
