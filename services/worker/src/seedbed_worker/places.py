"""Where a class or one of its attributes stands in the user's files, for errors that name it.

To find a class its file is parsed, which takes milliseconds: ask only when there is an error.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
import traceback


def place(cls: type) -> str:
    """`file:line: class Name`, as far as Python knows it."""
    try:
        file, _, first = _source(cls)
        return f"{file}:{first}: class {cls.__qualname__}"
    except (OSError, TypeError):
        return f"class {cls.__module__}:{cls.__qualname__}"


def attribute_place(cls: type, name: str) -> str:
    """The same with the line in which the class's body gives this attribute its value."""
    try:
        file, lines, first = _source(cls)
        (body,) = ast.parse(textwrap.dedent("".join(lines))).body
    except (OSError, TypeError, SyntaxError, ValueError):
        return place(cls)
    for node in body.body if isinstance(body, ast.ClassDef) else ():
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return f"{file}:{first + node.lineno - 1}: class {cls.__qualname__}"
    return place(cls)


def function_place(function: object) -> str:
    """`file:line` of a function, under its decorators; empty for what has no code of Python's."""
    code = getattr(inspect.unwrap(function) if callable(function) else None, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code is not None else ""


def in_words(error: BaseException) -> str:
    """`OSError: its text`, on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def raised_at(error: BaseException) -> str:
    """` (file:line)` of the innermost line of Python that an error passed, or nothing."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<")
    ]
    return f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""


def _source(cls: type) -> tuple[str, list[str], int]:
    lines, first = inspect.getsourcelines(cls)
    return inspect.getsourcefile(cls) or "?", lines, first
