"""Presets, and their way through JSON."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace

import pytest
import torch

from forerun.config import PRESETS, ModelConfig, model_config
from forerun.types import ConfigError, StreamSpec
from forerun.world_model import WorldModel
from tiny_worlds import ACTION, ARM, CAMERA, TICK_S

WIDE_CAMERA = StreamSpec(name="camera", kind="video", shape=(64, 64, 3), unit="rgb")
MILLIONS = {"xs": (0.1, 3), "s": (10, 40), "m": (80, 250), "l": (250, 700), "xl": (8_000, 12_000)}
"""Parameters of the trunk, from and to."""


@pytest.mark.parametrize("size", list(PRESETS))
def test_every_preset_builds_and_has_the_size_it_is_named_for(size: str) -> None:
    with torch.device("meta"):
        model = WorldModel(model_config(size, (WIDE_CAMERA, ARM), ACTION, TICK_S))
    parts = model.num_parameters()
    print({name: f"{count / 1e6:.2f}M" for name, count in parts.items() if count})
    smallest, largest = MILLIONS[size]
    assert smallest < parts["trunk"] / 1e6 < largest
    assert sum(parts.values()) == sum(p.numel() for p in model.parameters())


def test_presets_grow() -> None:
    trunks = []
    for size in PRESETS:
        with torch.device("meta"):
            model = WorldModel(model_config(size, (WIDE_CAMERA,), ACTION, TICK_S))
        trunks.append(model.num_parameters()["trunk"])
    assert trunks == sorted(trunks)


@pytest.mark.parametrize("size", list(PRESETS))
@pytest.mark.parametrize("action", [ACTION, None], ids=["action", "no action"])
def test_a_config_comes_back_from_json_as_it_went(size: str, action: StreamSpec | None) -> None:
    bounded = replace(action, low=(-1.0, -2.0), high=(1.0, 2.0), rate_hz=20.0) if action else None
    config = model_config(size, (CAMERA, ARM), bounded, TICK_S)
    assert ModelConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_an_unknown_or_missing_key_is_refused_by_name() -> None:
    written = json.loads(json.dumps(model_config("xs", (CAMERA,), ACTION, TICK_S).to_json()))
    with pytest.raises(ConfigError, match=r"unknown keys \['colour'\]"):
        ModelConfig.from_json({**written, "colour": "red"})
    size = {("depth" if k == "layers" else k): v for k, v in written["size"].items()}
    with pytest.raises(ConfigError, match=r"SizeConfig has unknown keys \['depth'\] and lacks \['layers'\]"):
        ModelConfig.from_json({**written, "size": size})
    with pytest.raises(ConfigError, match=r"lacks \['tick_s'\]"):
        ModelConfig.from_json({k: v for k, v in written.items() if k != "tick_s"})


def test_an_unknown_size_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="'xxl' is unknown; choose one of xs, s, m, l, xl"):
        model_config("xxl", (CAMERA,), ACTION, TICK_S)


def test_a_single_field_of_a_preset_can_be_replaced_but_not_invented() -> None:
    assert model_config("s", (CAMERA,), ACTION, TICK_S, window=5).size.window == 5
    with pytest.raises(TypeError):
        model_config("s", (CAMERA,), ACTION, TICK_S, windows=5)


@pytest.mark.parametrize(
    ("streams", "tick_s", "says"),
    [
        ((), TICK_S, "at least one observed stream"),
        ((ARM,), 0.0, "tick_s is 0.0"),
        ((ARM,), 60.0, "tick_s is 60.0"),
        ((replace(CAMERA, shape=(48, 64, 3)),), TICK_S, "square"),
    ],
)
def test_a_config_that_cannot_be_is_refused(streams: tuple, tick_s: float, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        model_config("xs", streams, ACTION, tick_s)


def test_a_config_does_not_change_once_made() -> None:
    config = model_config("xs", (CAMERA,), ACTION, TICK_S)
    with pytest.raises(FrozenInstanceError):
        config.tick_s = 1.0  # type: ignore[misc]
