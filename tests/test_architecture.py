"""The tree keeps its promises: layers, one home per heavy dependency, cheap imports, a true README."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "pyrad"

# A heavy dependency and the only places that may import it.
HOMES = {
    "zarr": ("store/",),
    "numcodecs": ("store/", "loader/fetch.py"),
    "pydicom": ("ingest/dicom/", "phantom/"),
    "PIL": ("ingest/raster.py", "ingest/dicom/codecs.py", "ingest/near/report.py", "phantom/", "eval/"),
    "boto3": ("store/bucket.py",),
    "botocore": ("store/bucket.py",),
    "matplotlib": ("eval/",),
    "torch": ("loader/", "models/", "train/", "eval/", "records.py"),
    "lightning": ("loader/lightning.py",),
    "pytorch_lightning": ("loader/lightning.py",),
    "monai": ("loader/monai.py",),
    "ray": ("ingest/workers/cluster.py",),
    "pyrad._C": ("ops.py",),
}

# Modules of nouns alone, which turn nothing into anything.
NOUNS = ("errors.py", "records.py", "ingest/book.py", "ingest/reasons.py")


def modules():
    return sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("package", HOMES)
def test_a_heavy_dependency_has_one_home(package):
    imports = re.compile(rf"^\s*(?:import|from) {re.escape(package)}\b", re.MULTILINE)
    strays = [
        path.relative_to(PACKAGE).as_posix()
        for path in modules()
        if imports.search(path.read_text())
        and not path.relative_to(PACKAGE).as_posix().startswith(HOMES[package])
    ]
    assert strays == []
    assert any(imports.search(path.read_text()) for path in modules()) or package == "pyrad._C"


def test_every_module_says_what_it_turns_into_what():
    said = {}
    for path in modules():
        docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
        said[path.relative_to(PACKAGE).as_posix()] = docstring.partition("\n")[0]
    assert sorted(path for path, first in said.items() if "->" not in first) == sorted(NOUNS)


def test_no_file_is_two_ideas():
    sources = [*modules(), *(ROOT / "csrc").glob("*.*"), *(ROOT / "tests").rglob("*.py")]
    long = {path.name: n for path in sources if (n := len(path.read_text().splitlines())) > 400}
    assert long == {}


@pytest.mark.parametrize("module", ["pyrad", "pyrad.cli", "pyrad.metrics", "pyrad.ops", "pyrad.store.reader"])
def test_importing_the_light_half_loads_no_torch_zarr_or_pydicom(module):
    code = f"import sys, {module}; print(*sorted({{'torch', 'zarr', 'pydicom', 'ray'}} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == ""


def test_layers_hold():
    ran = subprocess.run(
        [Path(sys.executable).parent / "lint-imports"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout


def test_readme_prints_the_tree_as_it_is():
    readme = (ROOT / "README.md").read_text()
    packages = [path.parent.name for path in PACKAGE.glob("*/__init__.py")]
    missing = [name for name in packages if f"{name}/" not in readme]
    assert missing == []


def test_version_is_one():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    stated = re.search(r'__version__ = "(.+)"', (PACKAGE / "__init__.py").read_text())
    assert stated is not None
    assert stated[1] == project["version"]
    assert f"## {project['version']}" in (ROOT / "CHANGELOG.md").read_text()
