"""What shows that a row of replay is what was stored: its digests, and values that a run can have."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from dreamer.data.storage import LATENT_DIGEST, LATENTS, OWN_COLUMNS, ROW_DIGEST, ROW_ID, Column


def digests(ids: np.ndarray, values: Sequence[np.ndarray]) -> np.ndarray:
    """CRC32 [n] of each row's id and its values, arrays [n ...] in a fixed order."""
    packed = np.concatenate([as_bytes(value) for value in (ids, *values)], axis=1)
    return np.fromiter((zlib.crc32(row) for row in packed), np.uint32, len(packed))


def digested(columns: Mapping[str, Column]) -> dict[str, list[str]]:
    """The columns that each digest is made of: `row_digest` of all but the latents, `latent_digest` of these."""
    rows = [key for key in columns if key not in LATENTS and key not in OWN_COLUMNS]
    return {ROW_DIGEST: rows, LATENT_DIGEST: [key for key in LATENTS if key in columns]}


def faults(
    columns: Mapping[str, Column], values: Mapping[str, np.ndarray], t: np.ndarray
) -> Iterator[tuple[str, np.ndarray]]:
    """What can be wrong with rows number t [n], and with which of them it is [n]; values has [n ...] of each column."""
    yield "another row lies in its place", values[ROW_ID] != t + 1
    for key, column in columns.items():
        yield f"{key} holds what no environment or model gives", is_impossible(column, values[key])
    for digest, keys in digested(columns).items():
        part = "latent" if digest == LATENT_DIGEST else "row"
        yield (
            f"the digest of its {part} does not fit",
            values[digest] != digests(values[ROW_ID], [values[key] for key in keys]),
        )


def is_impossible(column: Column, values: np.ndarray) -> np.ndarray:
    """Which rows [n] of values [n ...] hold a float not finite or too large, no class, or a flag not 0 or 1."""
    if values.dtype.kind == "f":
        is_wrong = ~(np.abs(values) <= column.limit)  # so written that NaN is wrong too
    elif values.dtype.kind == "b":
        is_wrong = values.view(np.uint8) > 1
    elif column.classes:
        is_wrong = (values < 0) | (values >= np.array(column.classes))
    else:
        return np.zeros(len(values), bool)
    return np.any(is_wrong.reshape(len(values), -1), axis=1)


def as_bytes(values: np.ndarray) -> np.ndarray:
    """The bytes uint8 [n, nbytes] of values [n ...]."""
    return np.ascontiguousarray(values).reshape(len(values), -1).view(np.uint8)
