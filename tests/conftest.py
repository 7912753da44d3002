"""What every test may ask for: real images, where they are at hand."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the zips of real images: ``PYRAD_DATA``, else ``../shared/data`` beside the checkout."""
    folder = Path(os.environ.get("PYRAD_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not (folder / "dicom.zip").is_file():
        pytest.skip(f"real images are not at hand ({folder.name}); set PYRAD_DATA to their folder")
    return folder
