"""The names of the cleaning rules in a file, read without importing it (and so without Spark)."""

from __future__ import annotations

import ast
from pathlib import Path

from tidemark.errors import ConfigError


def rule_names(path: Path) -> tuple[str, ...]:
    """Return the public top-level functions of a rules file, in its order; none without a file.

    Raises:
        ConfigError: The file can't be read or is no Python.
    """
    try:
        tree = ast.parse(path.read_bytes(), str(path))
    except FileNotFoundError:
        return ()
    except SyntaxError as error:
        raise ConfigError(f"{path}: line {error.lineno}: is no Python: {error.msg}") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: can't be read as Python: {error}") from None
    functions = (node.name for node in tree.body if isinstance(node, ast.FunctionDef))
    return tuple(dict.fromkeys(name for name in functions if not name.startswith("_")))
