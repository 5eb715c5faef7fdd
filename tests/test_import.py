"""Importing is quick and light, and modules import downward only."""

from __future__ import annotations

import ast
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

import mixloader

PACKAGE = Path(mixloader.__file__).parent
LAYERS = [  # downward only: a module imports from its own layer and those below
    {"errors"},
    {"shards", "ledger", "split"},
    {"policies"},
    {"plan", "planning"},
    {"controller", "batch", "pipelines"},
    {"arguments"},
    {"loader"},
    {"integrations"},
    {"tools"},
]


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout.strip()


def imports_of(path: Path) -> set[str]:
    """The modules that a file imports, anywhere in it, `from a import b` as a.b."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def sources() -> list[Path]:
    found = sorted(PACKAGE.glob("**/*.py")) + sorted(p for d in PACKAGE.iterdir() for p in d.glob("**/*.py"))
    assert len(found) > 25
    return sorted(set(found))


def layer_of(module: str) -> int | None:
    """The layer of mixloader.<name>...; None for the package itself and for what is not ours."""
    name = [*module.split("."), ""][1]
    return next((i for i, layer in enumerate(LAYERS) if name in layer), None)


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_modules_import_downward_only(path: Path) -> None:
    if path == PACKAGE / "__init__.py":
        assert not any(name.startswith("mixloader.tools") for name in imports_of(path))
        return
    own = "mixloader." + path.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", ".")
    layer = layer_of(own)
    assert layer is not None, f"{path} belongs to no layer: add it to LAYERS"
    for name in imports_of(path):
        if name.split(".")[0] == "mixloader" and own.split(".")[1] != "tools":
            other = layer_of(name)
            assert other is not None, f"{path} imports {name} from the package itself: name the module"
            assert other <= layer, f"{path} imports {name} from a layer above"


def test_split_needs_only_torch_and_the_errors() -> None:
    for path in (PACKAGE / "split").glob("*.py"):
        for name in imports_of(path):
            top = name.split(".")[0]
            ours = name.startswith(("mixloader.split.", "mixloader.errors."))
            assert ours or top == "torch" or top in sys.stdlib_module_names, f"{path} imports {name}"


def test_importing_loads_neither_dali_nor_torchvision_nor_pillow() -> None:
    heavy = ("nvidia.dali", "torchvision", "PIL", "typer", "rich", "matplotlib", "webdataset", "lightning")
    code = f"import sys, mixloader; print([name for name in {heavy} if name in sys.modules])"
    assert python(code) == "[]"


def test_importing_takes_less_than_a_third_of_a_second_beyond_torch() -> None:
    code = (
        "import torch, numpy, time; start = time.perf_counter(); import mixloader; print(time.perf_counter() - start)"
    )
    taken: list[float] = []
    for _ in range(9):  # other processes on the machine only ever make it slower
        taken.append(float(python(code)))
        if len(taken) >= 3 and statistics.median(sorted(taken)[:3]) < 0.3:
            return
    pytest.fail(f"import mixloader took {sorted(taken)} seconds")
