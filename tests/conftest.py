"""What every test may ask for: real images, where they are at hand. At the end, the measured tolerances."""

import os
from pathlib import Path

import pytest
import tolerances
from forgetting import write_four_patients

from pyrad import ops


def pytest_configure() -> None:
    """Before any test imports torch: OpenMP's threads sleep while they wait, as under the command line."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the zips of real images: ``PYRAD_DATA``, else ``../shared/data`` beside the checkout."""
    folder = Path(os.environ.get("PYRAD_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not (folder / "dicom.zip").is_file():
        pytest.skip(f"real images are not at hand ({folder.name}); set PYRAD_DATA to their folder")
    return folder


@pytest.fixture
def own_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret, and folders of the account's own: a test neither finds nor leaves anything of the user's."""
    monkeypatch.setenv("PYRAD_SECRET", "of the tests")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


@pytest.fixture(scope="session")
def four_patients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store of four patients, its private folder and its archive."""
    return write_four_patients(tmp_path_factory.mktemp("four"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was measured beside each tolerance, so that a bound is never looser than anyone knows."""
    for line in tolerances.report():
        terminalreporter.write_line(line)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test of the GPU is skipped, visibly, where there is none, and fails there if one was required."""
    if item.get_closest_marker("cuda") and not ops.device_report()["names"]:
        if os.environ.get("PYRAD_REQUIRE_CUDA") == "1":
            pytest.fail("PYRAD_REQUIRE_CUDA=1, and no GPU can be used here", pytrace=False)
        pytest.skip("no GPU here")
