"""Train on your own recordings, and see whether the model foretells more than "nothing changes".

python examples/02_own_recordings.py recordings/ --out runs/mine
"""

from pathlib import Path

import tyro
from rich.console import Console
from tyro.conf import Positional

import forerun
from forerun.data.inspect import summary
from forerun.data.window import split_episodes
from forerun.evaluation.errors import CHANGED_PIXELS, COPY, MODEL
from forerun.evaluation.prediction import predict
from forerun.teach import Recipe, teach


def main(path: Positional[Path], out: Path = Path("runs/mine"), quick: bool = False) -> None:
    """Open, train, measure.

    Args:
        path: LeRobot v3.0 or v2.1, RLDS, HDF5, or a folder of video.
        out: training run and model.
        quick: next to no training.
    """
    recordings = forerun.open_recordings(path)
    Console().print(summary(recordings))

    cache = forerun.build_cache(recordings, out / "cache", tick_s=0.1)
    recipe = Recipe(holdout=0.2).scaled(0.003 if quick else 1.0)
    model = teach(cache, out, recipe)

    train_episodes, held_out = split_episodes(cache, recipe.holdout, recipe.seed)
    found = predict(model, cache, held_out, train_episodes=train_episodes, horizon=10, clips=64)
    for method in (MODEL, COPY):
        error = found.error(CHANGED_PIXELS, method, seconds=1.0)
        if error is not None:
            print(f"1 s ahead, squared error where something changed: {method:<10} {error.estimate:.4f}")
    better = found.ratio(CHANGED_PIXELS, seconds=1.0)
    if better is not None:
        print(f"model over copy-last: {better.estimate:.2f} ({better.low:.2f} to {better.high:.2f})")


if __name__ == "__main__":
    tyro.cli(main)
