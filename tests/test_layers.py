"""The layer rule: a module imports from its own folder or from a lower level, and nothing goes round in a circle.

Read from the syntax tree, so a module counts whether or not anything here can import it.
"""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "src" / "sumi"

LEVELS = [
    {"config", "errors", "logs", "request", "text", "version"},
    {"nets", "diffusion"},
    {"models"},
    {"store"},
    {"resolve"},
    {"events"},
    {"running"},
    {"pipeline", "train"},
    {"explain", "grid"},
    {"engine"},
    {"serve"},
    {"apps"},
    {"__main__"},
]
LEVEL = {part: level for level, parts in enumerate(LEVELS) for part in parts}

# Training runs where nothing but these is installed; a machine that computes often has no more.
ENOUGH_TO_TRAIN = {"torch", "numpy", "PIL", "safetensors", "jaxtyping"}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


TREES = {name_of(path): ast.parse(path.read_text(encoding="utf-8")) for path in sorted(ROOT.rglob("*.py"))}
MODULES = [name for name in TREES if name != "sumi"]


def part(module: str) -> str:
    """sumi.nets.unet is of the part nets, sumi.config of the part config."""
    return module.split(".")[1]


def for_types_alone(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def imports(node: ast.AST, *, lazy: bool = True, types: bool = True) -> Iterator[str]:
    """Modules imported under `node`: also inside functions unless not `lazy`, also for annotations unless not `types`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.module is not None and child.level == 0, "imports are absolute"
            for alias in child.names:
                whole = f"{child.module}.{alias.name}"
                yield whole if whole in TREES else child.module
        elif (lazy or not isinstance(child, ast.FunctionDef)) and (types or not for_types_alone(child)):
            yield from imports(child, lazy=lazy, types=types)


def ours(module: str, **which: bool) -> set[str]:
    return {name for name in imports(TREES[module], **which) if name.split(".")[0] == "sumi"}


def others(module: str, **which: bool) -> set[str]:
    return {name.split(".")[0] for name in imports(TREES[module], **which)} - {"sumi"}


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module: str) -> None:
    for imported in ours(module):
        assert imported != "sumi", f"{module} imports from sumi: name the module that defines it"
        here, there = LEVEL[part(module)], LEVEL[part(imported)]
        assert there < here or part(imported) == part(module) or here == there == 0, f"{module} imports {imported}"


def test_no_circles() -> None:
    """Imports inside functions count too: a circle put off is still one."""
    TopologicalSorter({module: ours(module) - {module} for module in MODULES}).prepare()


@pytest.mark.parametrize(
    ("library", "allowed"),
    [
        ("PIL", ("sumi.store.films", "sumi.store.images", "sumi.store.sheets", "sumi.train.scenes")),
        ("tokenizers", ("sumi.text",)),
        ("safetensors", ("sumi.store.checkpoint",)),
        ("fastapi", ("sumi.serve", "sumi.apps.serve")),
        ("starlette", ("sumi.serve",)),
        ("uvicorn", ("sumi.serve", "sumi.apps.serve")),
    ],
)
def test_a_library_has_its_place(library: str, allowed: tuple[str, ...]) -> None:
    users = [module for module in MODULES if library in others(module, types=False)]
    assert [module for module in users if not module.startswith(allowed)] == []


def test_dependencies_are_what_is_imported() -> None:
    """All that runs without extras; what an extra is for is imported where it is used, and nowhere else."""
    project = tomllib.loads((ROOT.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    def named(requirements: list[str]) -> set[str]:
        names = (re.split(r"[^\w-]", each)[0].replace("-", "_") for each in requirements)
        return {{"pillow": "PIL"}.get(name, name) for name in names}

    def at_once(modules: list[str]) -> set[str]:
        return set[str]().union(*(others(module, lazy=False, types=False) for module in modules)) - sys.stdlib_module_names

    served = [module for module in MODULES if part(module) == "serve"]
    at_all = set[str]().union(*(others(module) for module in MODULES)) - sys.stdlib_module_names
    core, explain, serve = named(project["dependencies"]), *(named(project["optional-dependencies"][name]) for name in ("explain", "serve"))
    assert at_all == core | explain | serve
    assert at_once([module for module in MODULES if module not in served]) <= core and at_once(served) <= core | serve


def test_what_is_served_is_asked_for() -> None:
    """Only `sumi serve` leads there, and only when it is run."""
    leading = {module for module in MODULES if any(part(each) == "serve" for each in ours(module)) and part(module) != "serve"}
    assert leading == {"sumi.apps.serve"}
    assert not any(part(each) == "serve" for each in ours("sumi.apps.serve", lazy=False, types=False))


def test_text_needs_no_torch() -> None:
    assert [module for module in MODULES if LEVEL[part(module)] == 0 and "torch" in others(module)] == []


def test_networks_and_mathematics_touch_no_files() -> None:
    for module in MODULES:
        if LEVEL[part(module)] == 1:
            assert others(module).isdisjoint({"pathlib", "os", "io", "json", "safetensors", "PIL"}), module


def mentions(tree: ast.AST, word: str) -> bool:
    """Whether code, as opposed to documentation, names `word`."""
    documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)}
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)) if word in text and id(node) not in documentation:
                return True
            case ast.Attribute(attr=name) | ast.Name(id=name) if name == word:
                return True
    return False


def test_one_place_knows_the_hardware() -> None:
    assert [module for module in MODULES if mentions(TREES[module], "cuda")] == ["sumi.models.placement"]


def test_training_needs_little() -> None:
    """Everything that importing `sumi.train` imports, the modules it leads to included."""
    reached, ahead = set[str](), {module for module in MODULES if part(module) == "train"}
    while ahead:
        module = ahead.pop()
        reached.add(module)
        folders = {module.rsplit(".", i)[0] for i in range(1, module.count("."))}
        ahead |= (ours(module, lazy=False, types=False) | folders) - reached
    needed = {library for module in reached for library in others(module, lazy=False, types=False)}
    assert needed - sys.stdlib_module_names <= ENOUGH_TO_TRAIN
