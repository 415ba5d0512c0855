"""A folder that holds a model: read back exactly, refused with a reason, never half-written."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from forerun import checkpoint
from forerun.types import CheckpointError, ConfigError, StorageError
from forerun.world_model import WorldModel
from tiny_worlds import SHAPES, UNPACKED, actions, assert_same, imagine, latents, world

WEIGHTS, CONFIG = checkpoint.WEIGHTS, checkpoint.CONFIG


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    world().save_pretrained(folder)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


@pytest.mark.parametrize("shape", list(SHAPES))
def test_a_model_comes_back_bit_for_bit(shape: str, tmp_path: Path) -> None:
    model = world(**SHAPES[shape])
    model.whitening.mean.normal_()
    model.action_scale.fit(3 + actions(1, 50)[0])
    model.save_pretrained(tmp_path / "model")
    again = WorldModel.from_pretrained(tmp_path / "model")
    assert again.config == model.config
    assert not again.training
    for name, values in model.state_dict().items():
        assert torch.equal(values, again.state_dict()[name]), name
    seen, done = latents(model, 2, 3), actions(2, 5)
    one, other = (imagine(m, m.start(seen, done[:, :2]), done[:, 2:]) for m in (model, again))
    assert_same(one, other)
    assert sorted(contents(tmp_path / "model")) == sorted([WEIGHTS, CONFIG])
    assert list(tmp_path.iterdir()) == [tmp_path / "model"]


def test_saving_again_replaces_the_checkpoint(saved: Path) -> None:
    model = world(seed=1)
    model.save_pretrained(saved)
    assert torch.equal(WorldModel.from_pretrained(saved).trunk.embed.weight, model.trunk.embed.weight)
    assert [p.name for p in saved.parent.iterdir()] == ["model"]


def truncate(folder: Path) -> None:
    weights = folder / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-100])


def scramble(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(b"\xff" * 1000)


def empty(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(b"")


def cut_config(folder: Path) -> None:
    (folder / CONFIG).write_text('{"format": "forerun-wor')


def binary_config(folder: Path) -> None:
    (folder / CONFIG).write_bytes(b"\x80\x81\x82")


def list_config(folder: Path) -> None:
    (folder / CONFIG).write_text("[1, 2]")


def foreign_json(folder: Path) -> None:
    (folder / CONFIG).write_text(json.dumps({"model_type": "bert", "hidden_size": 768}))


def edit_config(folder: Path, change: Callable[[dict], None]) -> None:
    values = json.loads((folder / CONFIG).read_text())
    change(values)
    (folder / CONFIG).write_text(json.dumps(values))


def no_model(folder: Path) -> None:
    edit_config(folder, lambda c: c.pop("model"))


def odd_stream(folder: Path) -> None:
    edit_config(folder, lambda c: c["model"]["streams"][0].update(colour="red"))


def other_robot(folder: Path) -> None:
    edit_config(folder, lambda c: c["model"]["streams"][1].update(shape=[5], names=[]))


def lacking_weights(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    save_file({k: v for k, v in weights.items() if "embed" not in k}, folder / WEIGHTS)


def extra_weights(folder: Path) -> None:
    save_file({**load_file(folder / WEIGHTS), "surplus": torch.ones(1)}, folder / WEIGHTS)


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


@pytest.mark.parametrize(
    ("harm", "found", "advice"),
    [
        (truncate, "corrupt", "Copy it again"),
        (scramble, "corrupt", "Copy it again"),
        (empty, "corrupt", "Copy it again"),
        (cut_config, "corrupt", "Copy it again"),
        (binary_config, "corrupt", "Copy it again"),
        (list_config, "holds list", "Copy it again"),
        (foreign_json, "format 'None'", "install the version that wrote it"),
        (no_model, "does not describe a model", "Copy the checkpoint again"),
        (odd_stream, "does not describe a model", "Copy the checkpoint again"),
        (other_robot, r"of another shape .*is \(8, 19\), expected \(8, 21\)", "use the one of this model"),
        (lacking_weights, "2 missing", "use the one of this model"),
        (extra_weights, r"1 unknown \['surplus'\]", "use the one of this model"),
        (without(WEIGHTS), f"{WEIGHTS} is missing", "forerun train writes one"),
        (without(CONFIG), f"{CONFIG} is missing", "forerun train writes one"),
    ],
    ids=lambda part: getattr(part, "__name__", None),
)
def test_a_harmed_checkpoint_is_refused_with_what_was_found_and_what_to_do(
    saved: Path, harm: Callable[[Path], None], found: str, advice: str
) -> None:
    harm(saved)
    before = contents(saved)
    with pytest.raises(CheckpointError, match=found) as refusal:
        WorldModel.from_pretrained(saved)
    assert advice in str(refusal.value)
    assert str(refusal.value).endswith(f"Path: {saved}")  # private paths last
    assert contents(saved) == before


def test_where_there_is_no_folder_the_message_says_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such folder"):
        WorldModel.from_pretrained(tmp_path / "nowhere")
    (tmp_path / "file").write_text("hello")
    with pytest.raises(CheckpointError, match=f"{CONFIG} is missing"):
        WorldModel.from_pretrained(tmp_path / "file")


def test_a_setting_of_another_version_is_refused_by_name(saved: Path) -> None:
    edit_config(saved, lambda c: c["model"]["size"].update(experts=8))
    with pytest.raises(ConfigError, match=r"unknown keys \['experts'\]"):
        WorldModel.from_pretrained(saved)


def test_weights_of_another_size_do_not_load_in_part() -> None:
    one, other = world(), world(**UNPACKED)
    before = {k: v.clone() for k, v in one.state_dict().items()}
    with pytest.raises(CheckpointError, match="do not fit this model"):
        checkpoint.load_into(one, other.state_dict(), Path("model"))
    for name, values in one.state_dict().items():
        assert torch.equal(values, before[name]), name


FILL = """
import sys
sys.path[:0] = {paths!r}
from pathlib import Path
from tiny_worlds import world
from forerun.types import StorageError
try:
    world(seed=1).save_pretrained(Path({folder!r}))
except StorageError as refusal:
    print(refusal)
else:
    raise SystemExit("nothing was refused")
"""
LIMIT = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # no file may grow beyond 20 kB
"""


def test_a_checkpoint_that_does_not_fit_leaves_the_old_one_intact(saved: Path) -> None:
    before = contents(saved)
    assert len(before[WEIGHTS]) > 20_000
    script = LIMIT + FILL.format(paths=[str(Path(__file__).parent), *sys.path], folder=str(saved))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "Nothing was half-written" in done.stdout
    assert contents(saved) == before
    assert [p.name for p in saved.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_says_so_and_leaves_the_old_checkpoint_intact(
    saved: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(saved)

    def full(tensors: dict, path: Path) -> None:
        path.write_bytes(b"half of it")
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(StorageError, match=r"the disk is full; free some space .* it will resume"):
        world(seed=1).save_pretrained(saved)
    assert contents(saved) == before
    assert [p.name for p in saved.parent.iterdir()] == ["model"]


def test_a_small_disk_that_fills_up_keeps_the_old_checkpoint(saved: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    kilobytes = 3 * sum(map(len, contents(saved).values())) // 2048  # room for one checkpoint and a half
    mount = f"mount -t tmpfs -o size={kilobytes}k forerun-test {disk}"
    unshare = ["unshare", "--mount", "sh", "-ec"]  # in a name space of its own: gone when the test ends
    if shutil.which("unshare") is None or subprocess.run([*unshare, mount], capture_output=True).returncode:
        pytest.skip("only root may mount a small disk; the test with a limit on file sizes stands in")
    script = FILL.format(paths=[str(Path(__file__).parent), *sys.path], folder=str(disk / "model"))
    keep = f"cp -r {disk}/model {tmp_path}/kept; ls -A {disk} > {tmp_path}/left"
    steps = f'{mount}; cp -r {saved} {disk}/model; {sys.executable} -c "$SCRIPT"; {keep}'
    done = subprocess.run(
        [*unshare, steps], env={**os.environ, "SCRIPT": script}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "the disk is full; free some space" in done.stdout
    assert contents(tmp_path / "kept") == contents(saved)
    assert (tmp_path / "left").read_text().split() == ["model"]


def test_a_file_where_the_folder_should_be_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine")
    for place in (tmp_path / "notes", tmp_path / "notes" / "model"):
        with pytest.raises(StorageError, match=r"Move it away|move it away"):
            world().save_pretrained(place)
    with pytest.raises(StorageError, match="move it away"):
        checkpoint.write_text(tmp_path / "notes" / "run.json", "{}")
    assert (tmp_path / "notes").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_with_other_peoples_work_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(StorageError, match=r"holds \['thesis.tex'\], which would be lost"):
        world().save_pretrained(tmp_path)
    assert contents(tmp_path) == {"thesis.tex": b"mine"}


def test_a_read_only_folder_is_named_as_such(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        if os.access(tmp_path, os.W_OK):
            pytest.skip("this user may write anywhere (root): chmod stops nobody")
        with pytest.raises(StorageError, match="not writable; choose another --out"):
            world().save_pretrained(tmp_path / "model")
    finally:
        tmp_path.chmod(0o700)


def test_a_read_only_disk_is_named_as_such(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(StorageError, match="not writable; choose another --out"):
        world().save_pretrained(tmp_path / "model")


@pytest.mark.parametrize("new_one_is_complete", [True, False])
def test_a_kill_between_two_renames_loses_nothing(saved: Path, new_one_is_complete: bool) -> None:
    before = contents(saved)
    saved.rename(saved.with_name(".model.old"))
    if new_one_is_complete:
        world(seed=1).save_pretrained(saved.with_name("other"))
        saved.with_name("other").rename(saved.with_name(".model.draft"))
    assert checkpoint.present(saved)
    assert contents(saved) == before
    world(seed=2).save_pretrained(saved)
    assert [p.name for p in saved.parent.iterdir()] == ["model"]


def test_a_small_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "run.json"
    checkpoint.write_text(file, "one")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))  # nothing more can be opened
        with pytest.raises(StorageError, match=r"could not write run\.json"):
            checkpoint.write_text(file, "two")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert contents(file.parent) == {"run.json": b"one"}
