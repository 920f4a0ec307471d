"""Reads a definition file and says, for a mistake in it, the file, the line, the field and the fix."""

import ast
import importlib.util
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic.errors import PydanticUserError
from pydantic_core import SchemaError

from steelyard.core.definition import Model, params_set
from steelyard.core.guards import Guards
from steelyard.errors import DefinitionError, NotFoundError, UsageError, nearest

__all__ = ["load_definition"]


def load_definition(target: str, given: Mapping[str, str] | None = None) -> Model:
    """Run `FILE[:NAME]` and return its model, with the parameters in `given` set.

    The returned model knows its folder, source text and parameters. NAME is the variable or the
    model's own name, needed where the file defines several.
    """
    text, _, name = target.rpartition(":") if _has_name(target) else (target, "", "")
    path = Path(text)
    if not path.is_file():
        found = [p.name for p in path.parent.glob("*.py")] if path.parent.is_dir() else []
        raise NotFoundError(f"there is no definition file {path}.", fix=nearest(path.name, found))
    source = path.read_text(encoding="utf-8")
    with params_set(given or {}) as params, _sibling_imports(path.resolve().parent) as local:
        module = _execute(path, source)
    variable, model = _choose(module, path, name)
    model.file_name, model.variable = path.name, variable
    model.folder = path.resolve().parent
    model.source_text = source
    model.params = dict(params)
    model.modules = {file.name: file.read_text(encoding="utf-8") for file in local}
    return model


def _has_name(target: str) -> bool:
    return ":" in target and not target.endswith(".py")


@contextmanager
def _sibling_imports(folder: Path) -> Iterator[list[Path]]:
    """Let the file import modules beside it, and tell which; they are part of the definition."""
    before = set(sys.modules)
    local: list[Path] = []
    sys.path.insert(0, str(folder))
    try:
        yield local
    finally:
        sys.path.remove(str(folder))
        for name in sorted(set(sys.modules) - before):
            file = getattr(sys.modules[name], "__file__", None)
            if file and Path(file).suffix == ".py" and Path(file).resolve().parent == folder:
                local.append(Path(file))
                # Another definition may have a sibling of the same name.
                del sys.modules[name]


def _execute(path: Path, source: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location("steelyard_definition", path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} is no Python file.", fix="Give a file that ends in .py.")
    module = importlib.util.module_from_spec(spec)
    # Annotations written as text are resolved by the module's name while classes are made.
    sys.modules[spec.name] = module
    try:
        exec(compile(source, str(path), "exec"), module.__dict__)  # noqa: S102  # the definition
    except SyntaxError as error:
        raise DefinitionError(
            f"Python cannot read this line: {error.msg}.",
            file=path,
            line=error.lineno,
            fix="Correct the syntax.",
        ) from error
    except DefinitionError as error:
        error.file = path
        error.line = _line(path, source, error)
        raise
    except (PydanticUserError, SchemaError) as error:
        line = _line(path, source, error)
        message = str(error).splitlines()[-1].strip()
        raise DefinitionError(
            message,
            field=_annotated_at(source, line),
            file=path,
            line=line,
            fix="Use int, float, bool, str, Literal, date or datetime, each with | None or without.",
        ) from error
    except UsageError:
        raise
    except Exception as error:  # the user's own code: report whatever it raises with its place
        raise DefinitionError(
            f"{type(error).__name__}: {error}",
            file=path,
            line=_line(path, source, error),
            fix=_fix(error),
        ) from error
    finally:
        del sys.modules[spec.name]
    return module


def _fix(error: Exception) -> str:
    """Offer the nearest name where a name was mistyped."""
    if isinstance(error, AttributeError) and isinstance(error.obj, ModuleType):
        return nearest(str(error.name), getattr(error.obj, "__all__", dir(error.obj)))
    keyword = re.search(
        r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", str(error)
    )
    for kind in (Model, Guards):
        if keyword and keyword[1] == kind.__name__:
            return nearest(keyword[2], [field.name for field in fields(kind)])
    return "Run the file with Python to see the whole traceback."


def _line(path: Path, source: str, error: Exception) -> int | None:
    """Return the line that a person should look at: the field's own, else where it was raised."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    raised = frames[-1].lineno if frames else None
    field = getattr(error, "field", None)
    if field is None or raised is None:
        return raised
    nodes = list(ast.walk(ast.parse(source)))
    annotated = [
        node.lineno
        for node in nodes
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and node.target.id == field
    ]
    keywords = [
        keyword.value.lineno
        for node in nodes
        if isinstance(node, ast.Call) and node.lineno <= raised <= (node.end_lineno or node.lineno)
        for keyword in node.keywords
        if keyword.arg == field
    ]
    return next(iter([*annotated, *keywords]), raised)


def _annotated_at(source: str, line: int | None) -> str | None:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.AnnAssign) and node.lineno == line:
            return ast.unparse(node.target)
    return None


def _choose(module: ModuleType, path: Path, name: str) -> tuple[str, Model]:
    found: dict[str, Any] = {k: v for k, v in vars(module).items() if isinstance(v, Model)}
    if not found:
        raise DefinitionError(
            "the file defines no model.",
            file=path,
            fix="Add a variable that holds one: churn = sy.Model(name=..., row=..., data=..., ...)",
        )
    if name:
        by_name = {model.name: variable for variable, model in found.items()}
        variable = name if name in found else by_name.get(name, "")
        if not variable:
            raise NotFoundError(
                f"{path} has no model {name}.", fix=nearest(name, [*found, *by_name])
            )
        return variable, found[variable]
    if len({id(model) for model in found.values()}) > 1:
        raise UsageError(
            f"{path} defines several models: {', '.join(sorted(found))}.",
            fix=f"Name one, for example {path}:{sorted(found)[0]}.",
        )
    return next(iter(found.items()))
