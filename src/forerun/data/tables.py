"""JSON, CSV, NPZ, parquet and text files, read as named columns, with errors a person can act on."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from forerun.types import DataError

TABLE_SUFFIXES = (".json", ".jsonl", ".csv", ".tsv", ".npz", ".npy", ".parquet", ".txt", ".dat")
"""Files that a manifest may name as the source of a stream."""


def need_file(path: Path, what: str) -> None:
    """Raise DataError unless ``path`` is a file with something in it."""
    if not path.is_file():
        raise DataError(f"{path.name} is missing; {what}. Restore the file ({path})")
    if path.stat().st_size == 0:
        raise DataError(f"{path.name} is empty (0 bytes); {what}. Record or copy it again ({path})")


def need_columns(found: Collection[str], wanted: list[str], where: Path) -> None:
    """Raise DataError unless every wanted column is there."""
    missing = [w for w in wanted if w not in found]
    if missing:
        have = ", ".join(list(found)[:12]) + (", ..." if len(found) > 12 else "")
        raise DataError(
            f"{where.name} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}; it has "
            f"{have or 'none'}. Restore the file or correct the metadata that names them ({where})"
        )


def read_json(path: Path) -> Any:
    """Parse a JSON file."""
    need_file(path, "the data set needs it")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as cause:  # bad JSON or bad UTF-8
        raise DataError(
            f"{path.name} is no readable JSON: {cause}. Expected one JSON document; restore the file ({path})"
        ) from cause


def read_json_lines(path: Path) -> list[Any]:
    """Parse a file with one JSON document per line; empty lines are passed over."""
    need_file(path, "the data set needs it")
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        try:
            rows += [json.loads(line)] if line.strip() else []
        except ValueError as cause:
            raise DataError(
                f"line {number} of {path.name} is no readable JSON: {cause}. Expected one JSON document per "
                f"line; restore the file ({path})"
            ) from cause
    return rows


def open_parquet(path: Path) -> pq.ParquetFile:
    """Open a parquet file; one that was never finalized says so."""
    need_file(path, "the data set's tables name it")
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as cause:
        raise DataError(
            f"{path.name} ({path.stat().st_size} bytes) is no readable parquet file: {first_line(cause)}. "
            f"It is truncated or was never finalized; write or copy it again ({path})"
        ) from cause


def first_line(cause: BaseException) -> str:
    return (str(cause).splitlines() or [type(cause).__name__])[0].rstrip(".")


def to_array(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """An Arrow column, nested lists of equal length included, as (N, *shape); text as an object array."""
    shape: list[int] = [len(column)]
    flat = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    while pa.types.is_nested(flat.type):
        inner = flat.flatten()
        shape.append(len(inner) // max(len(flat), 1))
        flat = inner
    values = flat.to_numpy(zero_copy_only=False)
    return values.reshape(shape) if values.size == np.prod(shape) else values


def read_table(
    path: Path, *, skip_lines: int = 0, numbers_per_row: int | None = None
) -> dict[str, np.ndarray]:
    """Columns of a file by name: (N, ...) each; columns need not have equal length in JSON and NPZ.

    Args:
        path: .json, .jsonl, .csv, .tsv, .npz, .npy, .parquet, or whitespace separated .txt and .dat.
        skip_lines: lines of a text file to pass over before the first row.
        numbers_per_row: reads a text file as one run of numbers, cut into rows of this many.

    Columns without a name are called "0", "1", ... The arrays are shared between callers: do not write into
    them.

    Raises:
        DataError: if the file is missing, empty, unreadable or of an unknown type.
    """
    need_file(path, "a stream is to be read from it")
    stat = path.stat()
    return _read_table(path, skip_lines, numbers_per_row, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=32)
def _read_table(
    path: Path, skip: int, per_row: int | None, _mtime_ns: int, _size: int
) -> dict[str, np.ndarray]:
    suffix = path.suffix.lower()
    try:
        if suffix == ".json":
            return _json_columns(read_json(path))
        if suffix == ".jsonl":
            return _json_columns(read_json_lines(path))
        if suffix in (".csv", ".tsv"):
            return _csv_columns(path, skip, "\t" if suffix == ".tsv" else ",")
        if suffix == ".npz":
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files}
        if suffix == ".npy":
            return _numbered(np.load(path, allow_pickle=False))
        if suffix == ".parquet":
            table = open_parquet(path).read()
            return {name: to_array(table.column(name)) for name in table.column_names}
        if suffix in (".txt", ".dat"):
            return _numbered(_text_rows(path, skip, per_row))
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, pa.ArrowException) as cause:
        if isinstance(cause, DataError):
            raise
        raise DataError(
            f"{path.name} ({path.stat().st_size} bytes) cannot be read as {suffix}: {first_line(cause)}. "
            f"Expected rows of equal length; copy or export the file again ({path})"
        ) from cause
    raise DataError(
        f"{path.name} has the unknown ending '{suffix}'; a stream is read from {', '.join(TABLE_SUFFIXES)}. "
        f"Convert the file ({path})"
    )


def _numbered(values: np.ndarray) -> dict[str, np.ndarray]:
    return {str(i): values[:, i] for i in range(values.shape[1])} if values.ndim == 2 else {"0": values}


def _json_columns(content: Any) -> dict[str, np.ndarray]:
    """Columns of {name: list} or [{name: value}, ...]; entries that form no regular array are left out."""
    if isinstance(content, list) and content and isinstance(content[0], dict):
        content = {
            name: [row[name] for row in content] for name in content[0] if all(name in r for r in content)
        }
    if isinstance(content, list):
        return _numbered(np.asarray(content))
    if not isinstance(content, dict):
        raise DataError(
            f"the JSON document is a {type(content).__name__}; expected columns or a list of rows"
        )
    columns = {}
    for name, values in content.items():
        try:
            column = np.asarray(values)
        except ValueError:
            continue
        if column.ndim and column.dtype != object:
            columns[name] = column
    return columns


def _csv_columns(path: Path, skip: int, delimiter: str) -> dict[str, np.ndarray]:
    with path.open(encoding="utf-8", errors="replace") as file:
        first = [file.readline() for _ in range(skip + 1)][-1]
    bare = all(_is_number(cell) for cell in first.split(delimiter))
    options = csv.ReadOptions(skip_rows=skip, autogenerate_column_names=bare)
    table = csv.read_csv(path, read_options=options, parse_options=csv.ParseOptions(delimiter=delimiter))
    names = [str(i) for i in range(table.num_columns)] if bare else [n.strip() for n in table.column_names]
    return {name: to_array(column) for name, column in zip(names, table.columns, strict=True)}


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _text_rows(path: Path, skip: int, per_row: int | None) -> np.ndarray:
    lines = path.read_text(encoding="utf-8").splitlines()[skip:]
    rows = [[float(cell) for cell in line.split()] for line in lines if line.strip()]
    if per_row is None:
        return np.asarray(rows)
    numbers = np.asarray([number for row in rows for number in row])
    if numbers.size == 0 or numbers.size % per_row:
        raise DataError(
            f"{path.name} holds {numbers.size} numbers after {skip} skipped lines; expected whole rows of "
            f"{per_row}. Copy the file again ({path})"
        )
    return numbers.reshape(-1, per_row)
