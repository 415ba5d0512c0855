"""Tests run on one thread, with the types and shapes of everything that handles tensors checked at run time.

Not in data/ and tasks/: their tests pass wrong values on purpose, and a checked `Recordings` is a sequence
that reads an episode from disk whenever it is handed over.
"""

import os
from pathlib import Path

from jaxtyping import install_import_hook

CHECKED = (
    "config",
    "layers",
    "checkpoint",
    "encoders",
    "dynamics",
    "training",
    "world_model",
    "stages",
    "practice",
    "teach",
    "imagination",
    "control",
    "evaluation",
)
install_import_hook(
    [f"forerun.{room}" for room in CHECKED], "type_checks.check"
)  # before forerun is imported

import pytest  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(1)
ROOT = Path(__file__).parents[1]


def pytest_configure(config: pytest.Config) -> None:
    # rich annotates with typing.Iterable, and beartype warns about it in our name
    old_hint = "ignore::beartype.roar.BeartypeDecorHintPep585DeprecationWarning"
    config.addinivalue_line("filterwarnings", old_hint)


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of bundled real recordings; skips the test where there is none."""
    folder = Path(os.environ.get("FORERUN_DATA", ROOT / ".." / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("the real recordings are not here; set FORERUN_DATA to their folder")
    return folder
