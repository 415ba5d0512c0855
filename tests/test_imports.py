"""Lower rooms never import higher ones, and importing forerun costs next to nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import forerun
from forerun.data import write_lerobot
from moving_dot import TICK_S, episode

SOURCE = Path(__file__).parents[1] / "src" / "forerun"
ORDER = [
    {"types", "config", "layers", "checkpoint"},
    {"data", "encoders", "dynamics", "training", "tasks"},
    {"world_model"},
    {"stages"},
    {"practice", "pacing"},
    {"teach"},
    {"imagination", "serving"},
    {"control", "evaluation"},
    {"cli"},
]
LEVEL = {room: level for level, rooms in enumerate(ORDER) for room in rooms}
# Rooms of one level that may not know each other; control and evaluation work hand in hand.
STRANGERS = {"data", "encoders", "dynamics", "training", "tasks", "imagination", "serving"}
FORBIDDEN = {"torchvision", "torchaudio", "lerobot"}
EXTRAS = {"mujoco", "pymunk", "h5py", "tensorboard"}


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Full names of all modules a file imports, at its top or inside a function."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            names |= {f"{base}.{alias.name}" for alias in node.names} if base == "forerun" else {base}
            assert node.level == 0, f"{path.name} imports relatively"
    return names


def rooms_known_to(path: Path) -> set[str]:
    inside = {name.split(".")[1] for name in imported(path) if name.startswith("forerun.")}
    return (inside & set(LEVEL)) - {room_of(path)}


FILES = [path for path in sorted(SOURCE.rglob("*.py")) if path.parent != SOURCE or path.stem != "__init__"]


def test_every_room_has_its_place_in_the_order() -> None:
    assert {room_of(path) for path in FILES} <= set(LEVEL)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(SOURCE).as_posix())
def test_no_file_imports_a_higher_room(path: Path) -> None:
    own, known = room_of(path), rooms_known_to(path)
    assert [room for room in known if LEVEL[room] > LEVEL[own]] == []
    beside = [room for room in known if LEVEL[room] == LEVEL[own] and {own, room} <= STRANGERS]
    assert beside == []


def test_data_and_tasks_do_without_torch() -> None:
    inside = [path for path in FILES if room_of(path) in ("data", "tasks", "types")]
    assert [path.name for path in inside if any(n.split(".")[0] == "torch" for n in imported(path))] == []


def test_the_trainer_knows_no_model() -> None:
    known = {room for path in FILES if room_of(path) == "training" for room in rooms_known_to(path)}
    assert known <= {"types", "checkpoint", "config"}


def test_only_the_waist_and_what_teaches_it_know_encoders_and_dynamics() -> None:
    both = {"encoders", "dynamics"}
    assert {room_of(p) for p in FILES if rooms_known_to(p) >= both} <= {"world_model", "stages", "teach"}


def test_nothing_imports_what_drags_another_torch() -> None:
    assert [p.name for p in FILES if {n.split(".")[0] for n in imported(p)} & FORBIDDEN] == []


def after(statement: str) -> list[str]:
    """What a fresh interpreter prints for ``statement``, then its modules."""
    code = f"import sys; {statement}; print(*sys.modules)"
    return subprocess.check_output([sys.executable, "-c", code], text=True).split()


def test_importing_forerun_pulls_no_extra_and_not_even_torch() -> None:
    modules = after("import forerun, forerun.cli.main")
    assert not (EXTRAS | {"torch", "tyro", "matplotlib"}) & set(modules)


def test_every_public_name_is_there_two_seconds_after_torch_and_pulls_no_extra() -> None:
    everything = "import forerun, forerun.tasks; [getattr(forerun, name) for name in forerun.__all__]"
    seconds, *modules = after(
        f"import time, torch; t = time.perf_counter(); {everything}; print(time.perf_counter() - t)"
    )
    assert not (EXTRAS | FORBIDDEN) & set(modules)
    assert float(seconds) < 2


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(AttributeError, match="WorldModel"):
        _ = forerun.nothing_of_that_name  # type: ignore[attr-defined]
    assert set(forerun.__all__) <= set(dir(forerun))


def test_lazy_names_are_all_public_and_all_there() -> None:
    assert {*forerun._HOME, "__version__"} == set(forerun.__all__)
    for name in forerun.__all__:
        assert getattr(forerun, name) is not None


CORE_ALONE = f"""
import sys
from pathlib import Path
sys.modules |= dict.fromkeys({sorted(EXTRAS)})  # whoever imports one of them fails
import numpy as np, torch
torch.set_num_threads(1)
import forerun
from forerun.cli.main import main
from forerun.control.agents import WorldModelAgent
from forerun.practice import PracticeConfig
from forerun.teach import Recipe, teach
everything = [getattr(forerun, name) for name in forerun.__all__]
data, out = map(Path, sys.argv[1:])
recordings = forerun.open_recordings(data)
cache = forerun.build_cache(recordings, out / "cache", tick_s={TICK_S}, image_size=32)
practising = PracticeConfig(horizon=2, ahead=8)
model = teach(cache, out / "run", Recipe(holdout=0.4, practising=practising).scaled(0.002))
names = [s.name for s in model.config.streams]
seen, goal = ({{n: np.array(cache.streams[n][[row]]) for n in names}} for row in (0, 9))
agent = WorldModelAgent(forerun.WorldModel.from_pretrained(out / "run" / "model"))
agent.begin(seen, goal)
assert np.isfinite(agent.act(seen)).all()
assert main(["data", "inspect", str(data)]) == 0
print("planned")
"""


def test_the_core_alone_reads_trains_and_plans(tmp_path: Path) -> None:
    write_lerobot(tmp_path / "dots", (episode(i) for i in range(4)), fps=1 / TICK_S)
    words = [sys.executable, "-c", CORE_ALONE, str(tmp_path / "dots"), str(tmp_path / "out")]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("planned\n")
