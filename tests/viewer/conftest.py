"""Sessions, engines and servers with the smallest agents, on environments whose rows tell their own place."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tiny import build_agent
from viewer_pages import KEY, Served

from dreamer.config.schema import EnvConfig
from dreamer.envs.make import make_env
from dreamer.viewer.engine import Engine
from dreamer.viewer.model import Model
from dreamer.viewer.server import address, listen, make_server
from dreamer.viewer.session import Session
from dreamer.viewer.start import make_engine


def env_config(name: str = "dummy_counter", obs: str = "both") -> EnvConfig:
    return EnvConfig(suite="dummy", name=name, size=16, obs=obs)


@pytest.fixture
def make_session() -> Callable[..., Session]:
    """A session of the counter, whose row t has reward t and counter t."""

    def make_session(name: str = "dummy_counter", obs: str = "both", seed: int = 0) -> Session:
        env = make_env(env_config(name, obs))
        return Session(Model(build_agent(env.obs_space, env.action_space)), env, None, seed)

    return make_session


@pytest.fixture
def serve() -> Iterator[Callable[..., Served]]:
    """serve(most_viewers=..., obs=..., change=...): a server of the counter; `change` may alter its engine."""
    ends: list[Callable[[], Any]] = []

    def serve(
        most_viewers: int = 2, obs: str = "both", change: Callable[[Engine], None] = lambda engine: None
    ) -> Served:
        config = env_config(obs=obs)
        env = make_env(config)
        engine = make_engine(build_agent(env.obs_space, env.action_space), env, config, 0, most_viewers)
        change(engine)
        listener, ready = listen(0), threading.Event()
        server = make_server(engine, listener, KEY, ready.set)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        assert ready.wait(20)

        def end() -> None:
            server.should_exit = True
            thread.join(20)
            listener.close()
            assert not thread.is_alive() and not engine._thread.is_alive(), "nothing is left running"

        ends.append(end)
        return Served(address(listener, KEY), listener.getsockname()[1], engine)

    yield serve
    for end in ends:
        end()
