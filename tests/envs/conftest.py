import pytest

from dreamer.envs.drawing.backend import probe_renderers


@pytest.fixture(scope="session")
def renderer() -> str:
    """The backend that draws on this machine; a test that asks for it is skipped where there is none."""
    probe = probe_renderers()
    if probe.backend is None:
        pytest.skip(f"no way to render here: {'; '.join(probe.failures)}")
    return probe.backend
