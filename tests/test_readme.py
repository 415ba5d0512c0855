"""What the documents say is true: commands parse, code runs, links lead somewhere, tables were measured."""

from __future__ import annotations

import importlib
import re
import shlex
import types
from pathlib import Path

import numpy as np
import pytest

import forerun
import forerun.tasks
from forerun.cli.main import main, parse
from forerun.data import write_lerobot
from forerun.evaluation.results import Result, read_results, write_result
from forerun.evaluation.stats import wilson
from forerun.tasks.push import Push
from forerun.types import DataError
from moving_dot import episode

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "LOG.md")
]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


LINES = [
    line.split("#")[0].strip()
    for page in PAGES
    for language in ("bash", "sh")
    for block in blocks(page, language)
    for line in block.splitlines()
]


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("forerun")])
def test_every_command_in_the_documents_parses(line: str) -> None:
    assert callable(parse(shlex.split(line)[1:]))


LESS = {  # the same commands in seconds: what of them is replaced, and what is added
    "data record": ("--episodes 200", "--episodes 8 --max-steps 50 --past-the-end"),
    "train": ("train", "train --budget 0.003 --holdout 0.4"),
    "control": ("control", "control --trials 2 --budget-steps 5"),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
def test_the_commands_of_the_readme_run_one_after_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_lerobot(Path("recordings"), (episode(i, ticks=60) for i in range(6)), fps=10)
    lines = [line for block in blocks(ROOT / "README.md", "bash") for line in block.splitlines()]
    assert len(lines) > 5
    for line in lines:
        for verb, (words, fewer) in LESS.items():
            line = line.replace(words, fewer) if line.startswith(f"forerun {verb}") else line
        assert main(shlex.split(line)[1:]) == 0, line
    for made in ("recordings.png", "runs/recordings/report.html", "runs/push/model/config.json"):
        assert Path(made).is_file()


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("make")])
def test_every_make_target_in_the_documents_exists(line: str) -> None:
    for target in line.split()[1:]:
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("code", blocks(ROOT / "README.md", "python"))
def test_the_code_in_the_readme_runs(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    specs = Push().stream_specs()
    config = forerun.model_config("xs", (specs["camera"], specs["proprio"]), specs["action"], 0.1)
    forerun.WorldModel(config).save_pretrained(tmp_path / "runs" / "push" / "model")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(compile(code, "README.md", "exec"), names)
    assert len(names["pictures"]) == 5
    assert names["pictures"][0].shape == (1, 64, 64, 3)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_link_in_the_documents_leads_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", page.read_text())
    assert [t for t in targets if not (ROOT / t).exists()] == []


def test_every_file_named_in_the_architecture_exists() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    named = re.findall(r"`((?:[a-z_]+/)*[a-z_]+\.py)`", text)
    assert named
    source = ROOT / "src" / "forerun"
    assert [n for n in named if not (source / n).exists() and not (ROOT / n).exists()] == []


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("table")


def measured(
    folder: Path,
    name: str,
    *,
    reached: int = 17,
    seed: int = 0,
    offset: int = 25,
    steps: int = 9,
    data: str = "abc",
    model: str = "forerun-world-model-4",
) -> list[Result]:
    agents = {"planner": reached, "random moves": 1}
    metrics: dict = {agent: {"moderate": wilson(k, 20)} for agent, k in agents.items()}
    metrics["planner"]["ms_per_decision"] = 21.4
    plan = {"env": "forerun/Push-v0", "offset": offset, "budget": 2 * offset, "steps": steps}
    settings = {
        "plan": {**plan, "recipe": {"seed": seed}},
        "thresholds": {"moderate": {"position_m": 0.03, "yaw_rad": np.deg2rad(20)}, "strict": {}},
        "replan_steps": 1,
        "model": {"format": model},
    }
    about = {"seed": seed, "n": 20, "data_hash": data, "command": "forerun demo"}
    write_result(name, metrics, settings=settings, **about, folder=folder)
    return read_results(folder)


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.name
)
def test_the_tables_are_what_was_measured(table: types.ModuleType, page: Path) -> None:
    text = page.read_text()
    assert table.fill(text, read_results(ROOT / "benchmarks" / "results")) == text


def test_a_table_shows_intervals_floors_and_where_it_was_measured(
    table: types.ModuleType, tmp_path: Path
) -> None:
    text = table.fill("<!-- table:success -->\n<!-- /table -->", measured(tmp_path, "demo"))
    row = next(line for line in text.splitlines() if "make demo" in line)
    assert [c.strip() for c in row.split("|")[2:-1]] == [
        "85 % (64 to 95 %)",
        "5 % (1 to 24 %)",
        "20",
        "21 ms",
    ]
    assert "cloning" not in text  # nobody measured it
    assert "`forerun demo`" in text
    assert "cores; commit" in text


def test_the_minutes_the_readme_promises_are_those_that_the_demo_took(
    table: types.ModuleType, tmp_path: Path
) -> None:
    text, (result,) = (ROOT / "README.md").read_text(), measured(tmp_path, "demo")
    assert table.promised(text, [result]) == text  # nobody timed it
    result.metrics["total_minutes"] = 41.6
    assert "make demo    # about 42 minutes, installation included" in table.promised(text, [result])


def test_a_table_of_trials_says_how_they_were_drawn_and_judged(
    table: types.ModuleType, tmp_path: Path
) -> None:
    measured(tmp_path, "push")
    text = table.render(table.TABLES["success"], measured(tmp_path, "demo", seed=1))
    assert text.splitlines()[0] == (
        "Goals lie 25 steps after their starts; 50 steps to reach them, a decision at every step. Reached: "
        "in `forerun/Push-v0` (moderate) position within 0.03 m and yaw within 20 degrees."
    )


def test_goals_at_all_distances_come_from_the_runs_that_tried_them_all(
    table: types.ModuleType, tmp_path: Path
) -> None:
    for seed in (0, 1, 2):
        results = measured(tmp_path, "push", seed=seed, reached=20 - seed)
    distance = table.TABLES["distance"]
    assert table.render(distance, results) == ""  # nothing to compare with
    results = measured(tmp_path, "push-offset-50", seed=1, offset=50)
    about, _, _, _, near, far, *_ = table.render(distance, results).splitlines()
    assert about.startswith("Goals lie 25 or 50 steps after their starts; 50 or 100 steps to reach them")
    assert near.startswith("| Push, 25 | 95 % (76 to 99 %) |")
    assert far.startswith("| Push, 50 | 85 %")
    assert "| 60, 3 seeds |" in table.render(table.TABLES["success"], results)


def test_the_trials_of_all_seeds_make_one_interval_beside_the_range(
    table: types.ModuleType, tmp_path: Path
) -> None:
    for seed, reached in enumerate((16, 18, 20)):
        results = measured(tmp_path, "demo", reached=reached, seed=seed)
    low, high = (f"{100 * end:.0f}" for end in wilson(54, 60)[1:])
    text = table.render(table.TABLES["success"], results)
    assert f"| 90 % ({low} to {high} %; seeds 80 to 100 %) |" in text
    assert "; each seed 5 %)" in text
    assert "| 60, 3 seeds |" in text
    assert "| 21 ms (each seed 21 ms) |" in text


def test_the_same_play_recorded_on_two_machines_makes_one_row(
    table: types.ModuleType, tmp_path: Path
) -> None:
    measured(tmp_path, "demo", seed=0, data="abc")
    results = measured(tmp_path, "demo", seed=1, data="abd")  # its pictures differ in their last bits
    assert "| 40, 2 seeds |" in table.render(table.TABLES["success"], results)


@pytest.mark.parametrize("other", [{"steps": 8}, {"model": "forerun-world-model-3"}])
def test_only_seeds_of_equal_settings_and_models_make_one_row(
    table: types.ModuleType, tmp_path: Path, other: dict
) -> None:
    measured(tmp_path, "demo", reached=2, seed=1, **other)
    for old in tmp_path.glob("*.json"):
        old.write_text(old.read_text().replace('"finished": "2', '"finished": "1'))
    text = table.render(table.TABLES["success"], measured(tmp_path, "demo", reached=17))
    assert "| 85 % (64 to 95 %) |" in text
    assert "| 20 |" in text


def test_one_run_with_new_settings_does_not_replace_two_seeds(
    table: types.ModuleType, tmp_path: Path
) -> None:
    for seed in (0, 1):
        measured(tmp_path, "demo", reached=17, seed=seed)
    for old in tmp_path.glob("*.json"):
        old.write_text(old.read_text().replace('"finished": "2', '"finished": "1'))
    results = measured(tmp_path, "demo", reached=2, steps=8)
    assert "| 40, 2 seeds |" in table.render(table.TABLES["success"], results)
    results = measured(tmp_path, "demo", reached=18, seed=1, steps=8)
    text = table.render(table.TABLES["success"], results)
    assert "seeds 10 to 90 %" in text


def test_the_newest_result_of_a_seed_counts(table: types.ModuleType, tmp_path: Path) -> None:
    measured(tmp_path, "demo", reached=2)
    old, *_ = tmp_path.glob("*.json")
    old.write_text(old.read_text().replace('"finished": "2', '"finished": "1'))
    results = measured(tmp_path, "demo", reached=18)
    assert "90 %" in table.render(table.TABLES["success"], results)


def test_the_probes_of_all_seeds_stand_beside_their_floor(table: types.ModuleType, tmp_path: Path) -> None:
    for name, reads in (("untrained", 0.5), ("sigreg-inverse", 0.9)):
        for seed in (0, 1):
            metrics = {probe: {"mean": reads + 0.04 * seed} for probe in ("linear", "network")}
            write_result(
                f"representation-{name}", metrics, settings={"steps": 90}, seed=seed, n=9, folder=tmp_path
            )
    text = table.render(table.TABLES["representation"], read_results(tmp_path))
    about, _, _, _, floor, trained, *_ = text.splitlines()
    assert about == "After 90 of the recipe's 1000 steps of stage one."
    cells = "0.52 (seeds 0.50 to 0.54) | 0.52 (seeds 0.50 to 0.54) | 2 |"
    assert floor == f"| untrained: the floor | {cells}"
    assert trained.endswith("| 0.92 (seeds 0.90 to 0.94) | 0.92 (seeds 0.90 to 0.94) | 2 |")


def test_a_row_that_an_older_result_does_not_know_is_left_out(
    table: types.ModuleType, tmp_path: Path
) -> None:
    plan = {"plan": {"figure": 40.0, "naive": 800.0, "ratio": 20.0, "unit": "ms"}}
    write_result("speed", plan, settings={}, seed=0, n=15, folder=tmp_path)
    rows = table.render(table.TABLES["speed"], read_results(tmp_path)).splitlines()[2:-2]
    assert rows == ["| one plan: 64 futures, 4 rounds, 5 ticks | 40 | 800 | 20.0 | ms |"]


def test_a_table_nobody_measured_stays_empty(table: types.ModuleType) -> None:
    empty = "<!-- table:speed -->\n<!-- /table -->"
    assert table.fill(empty, []) == empty
    assert table.fill("<!-- table:speed -->\nold\n<!-- /table -->", []) == empty
    with pytest.raises(DataError, match="nonsense"):
        table.fill("<!-- table:nonsense -->\n<!-- /table -->", [])


def test_no_figure_stands_in_the_readme_without_a_file() -> None:
    text = re.sub(r"<!-- table.*?<!-- /table -->", "", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    shares = re.findall(r"\b\d+(?:\.\d+)? ?%", re.sub(r"95 % interval", "", text))
    assert shares == []
