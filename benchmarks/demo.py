"""What `make demo` gives a newcomer, and how long it takes from nothing, installation included.

    python benchmarks/demo.py

Clones this repository at its commit into a temporary folder and runs `make demo` there, where no environment
is yet; packages are downloaded anew. Writes the demo's own figures, and the minutes in all, as one JSON under
benchmarks/results/. Refuses changes that are not committed: the clone would not have them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from forerun.cli.main import complain
from forerun.evaluation.results import FOLDER, commit_of, keep_result, read_results
from forerun.types import ConfigError, Error

ROOT = Path(__file__).parents[1]
OURS = ("PYTHONPATH", "VIRTUAL_ENV", "MAKEFLAGS")
"""What of this process would shape the clone's."""


def run(root: Path, folder: Path = FOLDER) -> Path:
    """Clone, make, keep; returns the result's path.

    Raises:
        ConfigError: there is no commit to clone, or the working tree differs from it.
        Error: the demo failed in the clone.
    """
    commit, dirty = commit_of(root)
    if commit is None or dirty:
        found = "has changes that are not committed" if commit else "is no git checkout"
        raise ConfigError(
            f"the source {found}; this times what a fresh clone does. Commit first, then run it again. "
            f"Path: {root}"
        )
    with tempfile.TemporaryDirectory() as scratch:
        clone = Path(scratch) / "forerun"
        began = time.perf_counter()
        subprocess.run(["git", "clone", "--quiet", str(root), str(clone)], check=True)
        subprocess.run(["git", "-C", str(clone), "checkout", "--quiet", "--detach", commit], check=True)
        make(clone)
        minutes = (time.perf_counter() - began) / 60
        (found,) = read_results(clone / "demo" / "results")
    metrics = found.metrics | {"total_minutes": round(minutes, 2)}
    return keep_result(replace(found, metrics=metrics, command="python benchmarks/demo.py"), folder)


def make(clone: Path) -> None:
    """The one command of the README, with the Python that runs this."""
    environment = {name: value for name, value in os.environ.items() if name not in OURS}
    environment["PIP_NO_CACHE_DIR"] = "1"
    words = ["make", "demo", f"PYTHON={sys.executable}"]
    code = subprocess.run(words, cwd=clone, env=environment).returncode
    if code:
        raise Error(
            f"make demo ended with exit code {code} in a fresh clone; expected 0. What went wrong stands "
            "above; mend it, commit, and run this again"
        )


if __name__ == "__main__":
    try:
        print(run(ROOT).read_text())
    except Error as error:
        complain(str(error))
        sys.exit(2)
