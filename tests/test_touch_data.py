"""Real touch: units and clocks as promised, clean splits, and nothing found where there is nothing."""

from __future__ import annotations

import importlib
import shutil
import types
from pathlib import Path

import numpy as np
import pytest

from forerun.data.episode import Stream
from forerun.evaluation.forecasts import LAGS_S, STEPS, forecasts
from forerun.evaluation.linear import logistic, ridge
from forerun.evaluation.touch_data import (
    BIOTAC,
    ICUB,
    PALMS,
    SCREW,
    SOFTFINGER,
    biotac,
    held_out,
    icub,
    idle_taxels,
    opened,
    screwdriving,
    softfinger,
    trial_fold,
)
from forerun.evaluation.touch_nets import Perceptron, Recurrent, answers, taught
from forerun.training.trainer import TrainConfig
from forerun.types import DataError, StreamSpec


@pytest.fixture
def copied(shared_data: Path, tmp_path: Path):
    """A copy of one set in which files may be spoilt."""

    def copy(name: str) -> Path:
        if not (shared_data / name).is_dir():
            pytest.skip(f"the recordings '{name}' are not here")
        folder = tmp_path / name
        shutil.copytree(shared_data / name, folder, copy_function=shutil.copyfile)
        folder.chmod(0o755)
        for path in folder.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        return folder

    return copy


def real(shared_data: Path, name: str):
    if not (shared_data / name).is_dir():
        pytest.skip(f"the recordings '{name}' are not here; they are a folder of the real recordings")
    return opened(shared_data, name)


def test_soft_finger_poses_are_standardised_in_both_files_and_wrenches_are_not(shared_data: Path) -> None:
    train, test = softfinger(real(shared_data, SOFTFINGER))
    assert (train.inputs.shape, train.targets.shape) == ((21000, 6), (21000, 6))
    assert (test.inputs.shape, test.targets.shape) == ((1500, 6), (1500, 6))
    for rows in (train, test):
        assert np.allclose(rows.inputs.mean(0), 0, atol=1e-3)
        assert np.allclose(rows.inputs.std(0), 1, atol=1e-3)
        assert 10 < np.abs(rows.targets[:, :3]).max() < 30  # N
        assert 1 < np.abs(rows.targets[:, 3:]).max() < 3  # N m


def test_the_test_poses_mean_the_same_as_the_training_poses(shared_data: Path) -> None:
    train, test = softfinger(real(shared_data, SOFTFINGER))
    off = ridge(train.inputs, train.targets, 1e-3)(test.inputs) - test.targets
    assert (np.square(off).mean(0) < 0.25 * test.targets.var(0)).all()


def test_the_stored_test_poses_do_not_mean_the_same(shared_data: Path) -> None:
    recordings = real(shared_data, SOFTFINGER)
    train, test = softfinger(recordings)
    stored = {e.name: e for e in recordings}["test"].streams["observation.marker_displacement"].read()
    off = ridge(train.inputs, train.targets, 1e-3)(stored) - test.targets
    assert (np.square(off).mean(0) > test.targets.var(0)).all()


@pytest.mark.parametrize("palm", PALMS)
def test_biotac_tests_on_objects_that_training_never_held(shared_data: Path, palm: str) -> None:
    train, test = biotac(real(shared_data, BIOTAC), palm)
    assert train.inputs.shape[1] == test.inputs.shape[1] == 72
    assert (len(train), len(test)) == {"down": (1276, 316), "side": (1273, 322)}[palm]
    assert int(train.targets.sum()) == {"down": 609, "side": 670}[palm]  # slips, as its authors count them
    assert not set(train.groups) & set(test.groups)
    assert (len(set(train.groups)), len(set(test.groups))) == (41, 10)


def test_icub_leaves_out_what_its_authors_call_unreliable(shared_data: Path) -> None:
    recordings = real(shared_data, ICUB)
    grasps = icub(recordings)
    assert len(grasps) == 160
    assert {g.thing for g in icub(recordings, unreliable=True)} - {g.thing for g in grasps} == {"full_coke"}
    assert all(g.taxels.shape == (len(g), 60) and g.encoders.shape == (len(g), 9) for g in grasps)
    assert all(g.taxels.min() >= 0 and g.taxels.max() <= 255 for g in grasps)
    assert not grasps[0].tared()[0].any()


def test_idle_taxels_move_in_no_grasp(shared_data: Path) -> None:
    grasps = icub(real(shared_data, ICUB))
    idle = idle_taxels(grasps)
    assert 0 < idle.sum() < 60
    assert max(np.ptp(g.taxels[:, idle], axis=0).max() for g in grasps) <= 4


def test_every_trial_is_tested_once_and_folds_share_no_trial(shared_data: Path) -> None:
    grasps = icub(real(shared_data, ICUB))
    fold = trial_fold(grasps, 4)
    trials = [{(g.thing, g.trial) for g, f in zip(grasps, fold, strict=True) if f == k} for k in range(4)]
    assert [len(t) for t in trials] == [40, 40, 40, 40]
    assert len(set.union(*trials)) == len(grasps)
    assert {g.trial for g, f in zip(grasps, fold, strict=True) if f == 0} == {1, 2, 3, 4}


def test_screwdriving_keeps_two_clocks_and_only_pixels_of_the_tip(shared_data: Path) -> None:
    run = screwdriving(real(shared_data, SCREW))
    wrench, tip = run.streams["wrench"], run.streams["tip"]
    assert (wrench.spec.shape, wrench.spec.unit, tip.spec.unit) == ((6,), "N, N m", "px")
    assert (len(wrench), len(tip)) == (726, 726)
    gaps = np.diff(wrench.times_s)
    assert np.allclose([gaps.min(), np.median(gaps), gaps.max()], [0.018, 0.021, 0.153], atol=5e-4)
    assert tip.times_s[0] == 0
    assert wrench.times_s[0] == pytest.approx(0.659)
    assert (gaps > 0.02).mean() > 0.5  # "newest at t + 20 ms" would mostly be the sample already at hand
    assert tip.read().min() > 300  # no radius and no angle


def test_the_tip_as_radius_and_angle_knows_the_whole_run(shared_data: Path) -> None:
    radius, angle, u, v = real(shared_data, SCREW)[0].streams["observation.tip"].read().T
    assert np.allclose(u, u.mean() + radius * np.cos(angle))
    assert np.allclose(v, v.mean() + radius * np.sin(angle))


def jittery(samples: int, start_s: float, channels: int, name: str, seed: int = 0) -> Stream:
    rng = np.random.default_rng(seed)
    times_s = start_s + np.cumsum(rng.uniform(0.018, 0.15, samples))
    spec = StreamSpec(name=name, kind="touch", shape=(channels,), unit="N")
    return Stream(spec, times_s, rng.normal(size=(samples, channels)))


@pytest.mark.parametrize("horizon_s", [0.02, 0.1, 0.5])
def test_no_forecast_sees_what_came_after_it_was_asked(horizon_s: float) -> None:
    sensor, other = jittery(80, 0.7, 3, "force"), jittery(90, 0.0, 2, "tip", seed=1)
    asked = forecasts(sensor, other, horizon_s)
    row = len(asked.target) // 2
    now_s = asked.target_s[row] - horizon_s

    def later_is_noise(stream: Stream) -> Stream:
        noise = np.random.default_rng(5).normal(size=stream.read().shape)
        kept = np.where((stream.times_s > now_s)[:, None], noise, stream.read())
        return Stream(stream.spec, stream.times_s, kept)

    again = forecasts(later_is_noise(sensor), later_is_noise(other), horizon_s)
    for name in ("newest", "linear", "sequence", "lagged"):
        assert np.array_equal(getattr(again, name)[row], getattr(asked, name)[row]), name
    assert not np.array_equal(again.target[row], asked.target[row])


def test_no_target_is_a_sample_at_hand_when_it_is_asked_for() -> None:
    asked = forecasts(jittery(80, 0.7, 3, "force"), jittery(90, 0.0, 2, "tip"), 0.02)
    assert (asked.sequence[:, -1, 3] >= 0.02 - 1e-6).all()  # seconds from the newest sample to the target
    assert asked.sequence.shape[1:] == (STEPS, 3 + 1 + 2 + 1)
    assert asked.lagged.shape[1] == len(LAGS_S) * 5
    assert (asked.target != asked.newest).all()


def test_a_run_without_enough_past_is_refused() -> None:
    with pytest.raises(
        DataError, match=r"'force' \(10 samples\).*no moment with 24 samples.*record for longer"
    ):
        forecasts(jittery(10, 0.0, 3, "force"), jittery(90, 0.0, 2, "tip"), 0.02)


def test_held_out_groups_are_whole() -> None:
    groups = np.repeat(["a", "b", "c", "d", "e"], 7)
    held = held_out(groups, 0.2, 0)
    assert held.sum() == 7
    assert not set(groups[held]) & set(groups[~held])
    assert 0 < held_out(np.array(["a", "b"]), 0.01, 0).sum() < 2


def cut(path: Path, keep: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])


def drop_lines(path: Path, lines: int) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-lines]))


def test_poses_without_their_wrenches_are_refused(copied) -> None:
    folder = copied(SOFTFINGER)
    drop_lines(folder / "internal_FT_test.csv", 3)
    with pytest.raises(DataError, match=r"1500 rows and that of wrenches 1497.*truncated: copy it again"):
        softfinger(opened(folder.parent, SOFTFINGER))


@pytest.mark.parametrize(
    ("name", "file", "read"),
    [
        (BIOTAC, "bts3v2_palm_down.csv", lambda r: biotac(r, "down")),
        (ICUB, "iCubGraspDataset/book_1.txt", icub),
        (SCREW, "sensor_data.csv", screwdriving),
    ],
)
def test_a_file_cut_short_in_a_row_is_named(copied, name: str, file: str, read) -> None:
    folder = copied(name)
    cut(folder / file, 0.537)
    with pytest.raises(DataError, match=rf"{Path(file).name}.*[Ee]xpected.*[Cc]opy"):
        read(opened(folder.parent, name))


def test_an_absent_set_is_said_to_be_absent(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'wrench_screwdriving' is not among.*--data FOLDER"):
        opened(tmp_path, SCREW)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, root: Path) -> types.ModuleType:
    monkeypatch.syspath_prepend(str(root / "benchmarks"))
    return importlib.import_module("touch_real")


def test_the_benchmark_leaves_out_what_is_not_there(
    bench: types.ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.TouchReal(data=tmp_path, results=tmp_path / "results")()
    assert capsys.readouterr().out.count("is left out: there is no folder") == 4
    assert not (tmp_path / "results").exists()


def test_seeds_on_the_same_trials_do_not_narrow_an_interval(bench: types.ModuleType) -> None:
    right = np.arange(40) % 4 > 0
    one, three = bench.share(right), bench.share(np.stack([right] * 3))
    assert (one["low"], one["high"]) == (three["low"], three["high"])
    assert three["seeds"] == [0.75] * 3


def test_linear_baselines_find_a_line_and_nothing_in_shuffled_labels(shared_data: Path) -> None:
    train, test = biotac(real(shared_data, BIOTAC), "down")
    inside = ~held_out(train.groups, 0.2, 0)
    shuffled = np.random.default_rng(0).permutation(train.targets)

    def accuracy(labels: np.ndarray) -> float:
        guess = logistic(train.inputs[inside], labels[inside], 2, 0.1)(train.inputs[~inside]).argmax(1)
        return float((guess == labels[~inside]).mean())

    assert accuracy(train.targets) > 0.8
    assert abs(accuracy(shuffled) - 0.5) < 0.1
    targets = train.inputs[:, :2].astype(np.float64)
    mixed = targets[np.random.default_rng(1).permutation(len(targets))]
    assert np.allclose(ridge(train.inputs, targets, 0.0)(test.inputs), test.inputs[:, :2], atol=1.0)
    off = ridge(train.inputs[inside], mixed[inside], 0.1)(train.inputs[~inside]) - mixed[~inside]
    assert (np.square(off).mean(0) > 0.85 * mixed[~inside].var(0)).all()


def test_networks_learn_a_line_and_are_the_same_for_the_same_seed() -> None:
    x = np.random.default_rng(0).normal(size=(200, 5, 3)).astype(np.float32)
    rows = {"inputs": x, "targets": x.sum(-1, keepdims=True)}
    config = TrainConfig(steps=150, learning_rate=1e-2, warmup=5, save_every=150)

    def score(output, batch):
        return (output - batch["targets"]).square().mean()

    first, second = (taught(lambda: Recurrent(x, 1, width=4), rows, score, config) for _ in range(2))
    assert np.array_equal(answers(first, x), answers(second, x))
    flat = {name: values.reshape(-1, values.shape[-1]) for name, values in rows.items()}
    net = taught(lambda: Perceptron(flat["inputs"], 1, width=16), flat, score, config)
    assert np.square(answers(net, flat["inputs"]) - flat["targets"]).mean() < 0.2
    assert np.square(answers(first, x) - rows["targets"]).mean() < 0.2


def test_a_recurrent_network_looks_only_backwards() -> None:
    x = np.random.default_rng(0).normal(size=(2, 6, 3)).astype(np.float32)
    net, later = Recurrent(x, 2, width=4).eval(), x.copy()
    later[:, 4:] += 1
    assert np.array_equal(answers(net, x)[:, :4], answers(net, later)[:, :4])


def test_the_seeds_inside_one_result_stand_beside_its_interval(bench: types.ModuleType) -> None:
    table, rows = importlib.import_module("table"), importlib.import_module("rows")
    result = types.SimpleNamespace(n=40, metrics={"ridge": bench.mean(np.array([[0.5] * 4, [0.7] * 4]))})
    column = rows.Column(head="error", metric="{part}", form="{:.2f}")
    shown = table.cell(column, rows.Row(label="", result="", part="ridge"), [result])
    assert shown == "0.60 (0.60; seeds 0.50 to 0.70)"
