"""``forerun VERB ...``: one command, few verbs.

A verb's module is imported only when it is called, so that help is instant. Exit codes: 0 done, 1 the
examination found faults, 2 a mistake that can be explained, 130 interrupted.
"""

from __future__ import annotations

import difflib
import importlib
import os
import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

import forerun
from forerun.types import ConfigError, Error

TRACEBACK = "FORERUN_TRACEBACK"


class Verb(NamedTuple):
    """Where a verb lives, and what it is for."""

    module: str
    command: str
    """A frozen dataclass of documented options, or a union of them; calling an instance does the work."""
    about: str
    bare: str | None = None
    """The option that a first word without dashes is for."""
    mode: tuple[str, str, str] | None = None
    """A flag that makes another command of it: the flag, its module, the command."""


VERBS = {
    "data": Verb("forerun.cli.data", "DataCommand", "look at recordings; examine, convert, record them"),
    "train": Verb("forerun.cli.train", "Train", "learn a world model from recordings", bare="--data"),
    "imagine": Verb("forerun.cli.imagine", "Imagine", "show what the model expects beside what happened"),
    "control": Verb(
        "forerun.cli.control",
        "Control",
        "reach goal pictures by planning inside the model; --tiers: three rates",
        bare="--model",
        mode=("--tiers", "forerun.cli.tiers", "ControlTiers"),
    ),
    "serve": Verb(
        "forerun.cli.serve",
        "Serve",
        "many live worlds from one model, with a page to drive them",
        bare="--model",
    ),
    "bench": Verb(
        "forerun.cli.bench",
        "BenchServe",
        "bench serve: how many live worlds this machine serves in time",
        bare="--what",
    ),
    "demo": Verb("forerun.cli.demo", "Demo", "record, train, imagine and plan in one go, with a report"),
}


def main(args: Sequence[str] | None = None) -> int:
    """Do what the words after ``forerun`` say; the exit code. The entry point of the console script."""
    words = list(sys.argv[1:] if args is None else args)
    try:
        if not words or words[0] in ("-h", "--help", "help"):
            print(overview())
            return 0
        if words[0] in ("-V", "--version"):
            print(f"forerun {forerun.__version__}")
            return 0
        return parse(words)()
    except Error as error:
        if os.environ.get(TRACEBACK):
            raise
        complain(str(error))
        return 2
    except KeyboardInterrupt:
        complain("stopped. Nothing is half-written; the same command again resumes a training run.")
        return 130
    except BrokenPipeError:  # the reader of our output left, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def parse(words: Sequence[str]) -> Any:
    """The command that ``words`` describe, ready to be called.

    Raises:
        ConfigError: there is no such verb.
        SystemExit: help was asked for (code 0), or an option is unknown or ill-formed (code 2).
    """
    import tyro

    verb = VERBS.get(words[0])
    if verb is None:
        raise ConfigError(_unknown(words[0]))
    prog = f"forerun {words[0]}"
    if verb.mode is not None and verb.mode[0] in words:
        flag, module, command = verb.mode
        words, prog = [word for word in words if word != flag], f"{prog} {flag}"
        verb = Verb(module, command, verb.about)
    if verb.bare and len(words) > 1 and not words[1].startswith("-"):
        words = [words[0], verb.bare, *words[1:]]
    module = importlib.import_module(verb.module)
    command = getattr(module, verb.command)
    about = None if isinstance(command, type) else (module.__doc__ or "").replace("``", "")
    return tyro.cli(command, prog=prog, description=about, args=list(words[1:]))


def overview() -> str:
    """What ``forerun --help`` prints."""
    rows = "\n".join(f"  {name:<9}{verb.about}" for name, verb in VERBS.items())
    return (
        f"forerun {forerun.__version__}: world models for robots\n\n"
        f"usage: forerun VERB [options]\n\n{rows}\n\n"
        "forerun VERB --help explains a verb, forerun --version prints the version.\n"
        f"{TRACEBACK}=1 shows where an error came from."
    )


def complain(message: str) -> None:
    """One paragraph on the error channel, wrapped to the terminal."""
    width = min(shutil.get_terminal_size().columns, 110)
    text = textwrap.fill(f"forerun: {message}", width, break_long_words=False, break_on_hyphens=False)
    print(text, file=sys.stderr)


def _unknown(word: str) -> str:
    close = difflib.get_close_matches(word, VERBS, n=1)
    hint = f"Did you mean 'forerun {close[0]}'? " if close else ""
    return f"there is no verb '{word}'; the verbs are {', '.join(VERBS)}. {hint}Run: forerun --help"


if __name__ == "__main__":
    sys.exit(main())
