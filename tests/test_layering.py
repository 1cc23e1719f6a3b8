"""Imports run downward only, read from the files; what must stay cheap to import stays cheap."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
FORBIDDEN = {
    "models": {"recipes", "tasks", "gin", "seqio", "tensorflow", "optax", "orbax", "t5", "grain"},
    "tasks": {"recipes", "models", "gin", "flax", "optax", "orbax", "jax"},
    "recipes": {"flax", "seqio", "tensorflow", "t5"},
}


def imported(path: pathlib.Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("package", sorted(FORBIDDEN))
def test_a_package_imports_nothing_above_it(package):
    files = sorted((ROOT / package).rglob("*.py"))
    assert len(files) > 5
    wrong = {str(file.relative_to(ROOT)): bad for file in files if (bad := imported(file) & FORBIDDEN[package])}
    assert not wrong


def test_gin_is_imported_by_one_file():
    users = [file.name for package in FORBIDDEN for file in (ROOT / package).rglob("*.py") if "gin" in imported(file)]
    assert users == ["config.py"]


def test_recipe_imports_the_standard_library_alone():
    reached, todo = set(), ["recipe.py"]
    while todo:
        name = todo.pop()
        for node in ast.walk(ast.parse((ROOT / "recipes" / name).read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "recipes":
                todo += [f"{alias.name}.py" for alias in node.names if f"{alias.name}.py" not in reached]
        reached.add(name)
        outside = imported(ROOT / "recipes" / name) - set(sys.stdlib_module_names) - {"recipes"}
        assert not outside, (name, outside)
    assert reached == {"recipe.py", "paths.py"}


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import recipes.cli", ("jax", "tensorflow", "numpy", "gin")),
        ("import recipes.recipe", ("jax", "tensorflow", "numpy")),
        ("import recipes.plan, recipes.config, recipes.loop", ("tensorflow", "seqio")),
        ("import tasks.blend, tasks.feed, tasks.store", ("tensorflow", "seqio")),
    ],
)
def test_importing_stays_cheap(statement, absent):
    code = f"{statement}; import sys; print([n for n in {absent!r} if n in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_one_distribution_owns_seqio_and_tfds():
    import importlib.metadata

    owners = importlib.metadata.packages_distributions()
    assert owners["seqio"] == ["seqio"]
    assert owners["tensorflow_datasets"] == ["tensorflow-datasets"]
    lock = (ROOT / "requirements.txt").read_text()
    assert "nightly" not in lock


def test_no_file_is_too_long():
    files = [file for package in (*FORBIDDEN, "tests", "benchmarks") for file in (ROOT / package).rglob("*.py")]
    long = {str(file.relative_to(ROOT)): n for file in files if (n := len(file.read_text().splitlines())) > 300}
    assert not long, f"one noun a file; split these: {long}"
