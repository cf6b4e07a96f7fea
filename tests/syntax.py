"""Parses our own source code for the tests that look at it."""

import ast
import gc


def parsed(source: str) -> ast.Module:
    """The syntax tree of a module.

    Without garbage collection: a finalizer that logs a traceback parses, too, and CPython 3.11 then raises
    "AST constructor recursion depth mismatch" (python/cpython#106905).
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        return ast.parse(source)
    finally:
        if collects:
            gc.enable()
