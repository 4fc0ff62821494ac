"""Protects the layout: dependencies point downwards only, there is no cycle, no heavy planning."""

import subprocess
import sys

import grimp
import pytest

PACKAGE = "pte_foundry"
# Low to high. A room may import what is below it, and nothing on its own level but itself.
LAYERS = (
    ("errors", "canonical_json", "heap", "lock", "names", "terminal"),
    ("files", "findings", "limits"),
    ("packages", "installed", "place", "slice_argument", "version"),
    ("upstream",),
    ("formats",),
    ("mil",),
    ("pte",),
    ("models",),
    ("quantize", "lowering"),
    ("config",),
    ("validate",),
    ("report", "release"),
    ("workflow",),
    ("job",),
    ("steps",),
    ("cli",),
    ("bench",),
)
HEAVY = ("torch", "torchao", "coremltools", "executorch", "numpy", "sklearn")


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    """All imports: at the top of modules, inside functions, and for type checkers."""
    return grimp.build_graph(PACKAGE, cache_dir=None, exclude_type_checking_imports=False)


def room(module: str) -> str:
    return module.split(".")[1]


LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def test_every_room_has_a_level(graph):
    rooms = {room(module) for module in graph.modules if "." in module} - {"__main__"}
    assert rooms == LEVEL.keys()


def test_dependencies_point_downwards(graph):
    upwards = [
        f"{importer} imports {imported}"
        for importer in graph.modules
        for imported in graph.find_modules_directly_imported_by(importer)
        if "." in imported
        and "." in importer
        and room(importer) in LEVEL
        and room(importer) != room(imported)
        and LEVEL[room(imported)] >= LEVEL[room(importer)]
    ]
    assert not upwards


def test_no_module_is_in_a_cycle(graph):
    """Inside of a room too. A package is not counted as importing its own modules' packages."""
    found = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module not in done:
            for imported in sorted(found[module]):
                visit(imported, (*path, module))
            done.add(module)

    for module in sorted(found):
        visit(module, ())


def test_packages_have_no_lazy_names(graph):
    lazy = [
        package for package in graph.modules if hasattr(sys.modules.get(package), "__getattr__")
    ]
    assert not lazy


@pytest.mark.parametrize(
    "module", ["workflow.jobs", "config.config", "cli.main", "report.page", "release.manifest"]
)
def test_planning_and_reporting_load_nothing_heavy(module):
    code = f"import sys, {PACKAGE}.{module}; print([n for n in {HEAVY} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    allowed = "['numpy']" if module == "report.page" else "[]"  # altair loads it
    assert done.stdout.strip() in ("[]", allowed)
