"""What is sent to the page: a header as JSON, then the pictures it names as they are, one behind the other."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from dreamer.viewer.model import Told
from dreamer.viewer.pictures import Picture
from dreamer.viewer.session import COUNTS, FASTEST, SLOWEST, Session

MOST_LINES = 60  # numbers of an observation that are drawn as lines of their own
SPREAD = (0.1, 0.9)  # of several samples, what a band shows


def pack(header: dict[str, Any], pictures: dict[str, Picture | None]) -> bytes:
    """Length of the header (4 bytes, little end first), the header, and RGB bytes of each picture that is there."""
    there = {name: picture for name, picture in pictures.items() if picture is not None}
    header["pictures"] = [[name, picture.height, picture.width] for name, picture in there.items()]
    text = json.dumps(header, allow_nan=False, separators=(",", ":")).encode()
    return b"".join([len(text).to_bytes(4, "little"), text, *(bytes(item.pixels()) for item in there.values())])


def greeting(session: Session, name: str, note: str, action_names: tuple[str, ...]) -> bytes:
    """What the page must know once."""
    space, labels = session.model.action_space, session.lens.labels(session.model.obs_space)
    header = {
        "kind": "hello",
        "name": name,
        "note": note,
        "sees": "pixels" if session.lens.image_keys else "state",
        "has_pictures": session.lens.has_pictures,
        "labels": labels[:MOST_LINES],
        "num_labels": len(labels),
        "choices": list(space.classes),
        "num_actions": int(np.prod(space.shape)),
        "action_names": list(action_names),
        "counts": COUNTS,
        "rate": session.rate,
        "rates": [SLOWEST, FASTEST],
        "every": session.every,
    }
    return pack(header, {})


def view(session: Session) -> bytes:
    """What the page shows now: the rows of episode and dream that belong together, and where they stand."""
    track, step = session.shown_dream, session.dream_step
    at = min(track.start + step, len(session.real) - 1) if session.mode == "branch" else session.at
    row, dreamed = session.real.episode.rows[at], track.dream.rows[step]
    action = dreamed.action[0] if dreamed.action is not None else session.action
    real, reconstruction = session.real.pictures[at]
    pictures = {"real": real, "reconstruction": reconstruction}
    pictures |= {f"dream {index}": picture for index, picture in enumerate(track.pictures[step])}
    vectors, lens = {}, session.lens
    if lens.vector_keys:
        several = lens.vectors(dreamed.obs, (track.dream.count,))[:, :MOST_LINES]
        vectors = {
            "real": _numbers(lens.vectors(row.row.obs)[:MOST_LINES]),
            "reconstruction": _numbers(lens.vectors(row.reconstruction)[:MOST_LINES]),
            "dream": [_numbers(part) for part in np.quantile(several, (0.5, *SPREAD), axis=0)],
        }
    header = {
        "kind": "view",
        "episode": session.num_episodes,
        "mode": session.mode,
        "is_playing": session.is_playing,
        "is_steered": session.is_steered,
        "is_over": session.real.episode.is_over,
        "is_full": session.is_full,
        "rows": len(session.real),
        "at": at,
        "real": {"reward": _numbers(row.row.reward), "kl": _numbers(row.seen.kl), **_told(row.told)},
        "dream_id": f"{track.seed:x}",
        "start": track.start,
        "step": step,
        "length": len(track),
        "dream": {**_told(dreamed.told), "kl": None if dreamed.surprise is None else _numbers(dreamed.surprise)},
        "action": _numbers(action),
        "vectors": vectors,
    }
    return pack(header, pictures)


def _told(told: Told) -> dict[str, Any]:
    return {"told": _numbers(told.reward), "value": _numbers(told.value), "cont": _numbers(told.cont)}


def _numbers(values: Any) -> Any:
    """Plain numbers with four digits behind the point; None where one is not finite."""
    if np.ndim(values):
        return [_numbers(value) for value in values]
    return round(float(values), 4) if np.isfinite(values) else None
