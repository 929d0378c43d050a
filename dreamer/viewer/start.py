"""From an agent and its environment to a page that runs until Ctrl-C."""

from __future__ import annotations

import os
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable
from typing import NoReturn

from dreamer.agent import Agent
from dreamer.config.schema import EnvConfig
from dreamer.envs.make import make_env
from dreamer.envs.suites.dmc import DMC
from dreamer.envs.wrappers import EpisodeJournal
from dreamer.export.step import units_of
from dreamer.viewer.engine import Engine
from dreamer.viewer.model import Model
from dreamer.viewer.pictures import Stage, open_stage
from dreamer.viewer.server import address, make_server, new_key
from dreamer.viewer.session import Session


def check_drawing(config: EnvConfig, system: str) -> None:
    """ValueError where the simulator's pictures would be drawn in a thread that may not: macOS has one that may."""
    if system == "darwin" and config.suite == "dmc":
        raise ValueError(
            "scripts/dream.py draws the Control Suite in a thread, which macOS refuses; "
            "scripts/evaluate.py checkpoint=... dream=dream.gif makes a film of the dream there."
        )


def make_engine(agent: Agent, env: EpisodeJournal, config: EnvConfig, seed: int, most_viewers: int) -> Engine:
    """An engine whose sessions have environments of their own. `env` is one of them, asked what they are like."""
    model, made = Model(agent), {}
    sees_pictures = any(space.is_image for space in agent.obs_space.values())
    env.reset(seed)
    if not sees_pictures:
        env.frame()  # so that it is known whether anything draws
    stage, note = open_stage(config, sees_pictures)
    if stage is not None:
        stage.close()
    rate = 1 / env.env.seconds_per_action if isinstance(env.env, DMC) else 20.0
    names = units_of(env.env).names

    def make_session() -> Session:
        own, stage = make_env(config), open_stage(config, sees_pictures)[0]
        session = Session(model, own, stage, seed, rate)
        made[id(session)] = (own, stage)
        return session

    def close_session(session: Session) -> None:
        own, stage = made.pop(id(session))
        for part in (own, stage):
            if isinstance(part, EpisodeJournal | Stage):
                part.close()

    return Engine(make_session, close_session, most_viewers, config.name, note, names)


def serve(engine: Engine, listener: socket.socket, opens_browser: bool) -> NoReturn:
    """Print the address, open it, and answer until Ctrl-C; then end this process, and leave nothing running."""
    key = new_key()
    url = address(listener, key)

    def announce() -> None:
        print(f"The dream is at {url}\nCtrl-C ends it.", flush=True)
        if opens_browser and has_screen():
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()

    run_until_interrupt(make_server(engine, listener, key, announce).run, listener)
    is_ended = engine.stop()
    if not is_ended:
        print("The simulator did not come back from a step; ended without it.", file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(0 if is_ended else 1)  # all is closed; the libraries' own tear-down would keep the user waiting


def run_until_interrupt(run: Callable[..., None], listener: socket.socket) -> None:
    try:
        run(sockets=[listener])
    except KeyboardInterrupt:
        print("\nEnded.", flush=True)
    finally:
        listener.close()


def has_screen() -> bool:
    """Whether a browser would have a window. Without one, some systems open one in the terminal."""
    return sys.platform != "linux" or "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ
