"""Frames a second of every way to draw a task, and how far each is from the reference."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import fields, replace
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

from dreamer.benchmark.timing import Timing, fresh_process, medians, timed
from dreamer.benchmark.update import without_pictures
from dreamer.config.schema import EnvConfig
from dreamer.envs.make import make_env

REFERENCE = "reference"
WARM_UP = 3  # frames: a context is made with the first
VISIBLE = 3  # of 255: a pixel counts as off from here on


class Round(NamedTuple):
    """timing: the mean over frames, the simulation left out; frames uint8 [n h w 3]."""

    timing: Timing
    frames: np.ndarray


def measure_render(config: EnvConfig, num_frames: int, rounds: int) -> dict[str, dict[str, Any]]:
    """mode -> frames per second on one thread, CPU seconds a frame, and the difference from the reference.

    Each mode has a process of its own, since a process keeps its OpenGL state; the processes take turns.
    mean_difference: mean over all numbers of a picture, of 255; share_off: pixels of which a colour is off by more
    than VISIBLE.
    """
    modes = render_modes(config)
    drawn: dict[str, list[Round]] = {mode: [] for mode in modes}
    with ExitStack() as stack:
        pools = {mode: stack.enter_context(fresh_process()) for mode in modes}
        starts = [pools[mode].submit(draw, replace(config, render=mode), 1, 0) for mode in modes]
        for start in starts:
            start.result()
        for seed in range(rounds):
            for mode in modes:
                drawn[mode].append(pools[mode].submit(draw, replace(config, render=mode), num_frames, seed).result())
    reference = np.concatenate([one.frames for one in drawn[REFERENCE]])
    return {mode: _entry(of, reference) for mode, of in drawn.items()}


def render_modes(config: EnvConfig) -> tuple[str, ...]:
    """The words of env.render, the reference first; the test environments have no other way."""
    words = next(item.metadata["words"] for item in fields(EnvConfig) if item.name == "render")
    return tuple(sorted(words, key=lambda word: word != REFERENCE)) if config.suite == "dmc" else (REFERENCE,)


def draw(config: EnvConfig, num_frames: int, seed: int) -> Round:
    """Frames of an episode with random actions, the same for every mode."""
    env, random = make_env(without_pictures(config)), np.random.default_rng(seed)
    space = env.action_space
    row, picture = env.reset(seed), getattr(env.env, "image", env.frame)
    timings, frames = [], []
    for _ in range(WARM_UP + num_frames):
        action = np.zeros(space.shape) if space.is_discrete else random.uniform(-1, 1, space.shape)
        # State alone is observed, so nothing is drawn before `picture`.
        row = env.reset(seed) if row.is_last else env.step(action.astype(space.dtype))
        timings.append(timed(lambda: frames.append(picture())))
    env.close()
    wall, cpu = zip(*timings[WARM_UP:], strict=True)
    return Round(Timing(fmean(wall), fmean(cpu)), np.stack(frames[WARM_UP:]))


def _entry(rounds: list[Round], reference: np.ndarray) -> dict[str, Any]:
    timing = medians([one.timing for one in rounds])
    off = np.abs(np.concatenate([one.frames for one in rounds]).astype(np.int16) - reference)
    return {
        "frames_per_second": 1 / timing.seconds,
        **timing._asdict(),
        "threads": 1,
        "mean_difference": float(off.mean()),
        "share_off": float((off.max(-1) > VISIBLE).mean()),
        "max_difference": int(off.max()),
        "frames": len(reference),
    }
