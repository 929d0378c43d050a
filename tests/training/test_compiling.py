"""torch.compile for the parts of an update: the same losses as without, and plain words where it cannot be."""

import pytest
import torch
from tiny import VECTORS, build_agent, build_batch

from dreamer.agent import Agent
from dreamer.training import compiling
from dreamer.training.compiling import choose_compile, compile_parts, missing_compiler
from dreamer.training.module import DreamerModule, build_optimizer


class OneUpdate(DreamerModule):
    def __init__(self, agent: Agent) -> None:
        super().__init__(agent)
        self.optimizer = build_optimizer(agent, agent.config)

    def optimizers(self):
        return self.optimizer

    def apply_update(self, total):
        self.optimizer.zero_grad()
        total.backward()
        self.gradients = {name: p.grad.clone() for name, p in self.agent.named_parameters() if p.grad is not None}
        self.optimizer.step()
        return torch.zeros(())


@pytest.mark.skipif(bool(missing_compiler()), reason="no C++ compiler")
def test_compiled_update_computes_what_the_plain_one_does():
    outputs, gradients = {}, {}
    for is_compiled in (False, True):
        torch.manual_seed(3)
        module = OneUpdate(build_agent(VECTORS))
        batch = build_batch(module.agent)
        if is_compiled:
            compile_parts(module)
        torch.manual_seed(4)  # both draw the same latents and actions
        outputs[is_compiled], gradients[is_compiled] = module.training_step(batch, 0), module.gradients
    assert outputs[True]["stoch"].equal(outputs[False]["stoch"])
    torch.testing.assert_close(outputs[True]["deter"], outputs[False]["deter"], rtol=1e-4, atol=1e-5)
    for name, expected in outputs[False]["metrics"].items():
        torch.testing.assert_close(outputs[True]["metrics"][name], expected, rtol=1e-3, atol=1e-4, msg=name)
    assert gradients[True].keys() == gradients[False].keys()
    for name, expected in gradients[False].items():
        scale = float(expected.abs().max())
        torch.testing.assert_close(gradients[True][name], expected, rtol=1e-2, atol=1e-3 * scale + 1e-7, msg=name)


def test_auto_compiles_long_runs_alone(monkeypatch, capsys):
    monkeypatch.setattr(compiling, "missing_compiler", lambda: "")
    assert [choose_compile("auto", updates) for updates in (100, 1e6)] == [False, True]
    assert [choose_compile("on", 100), choose_compile("off", 1e6)] == [True, False]
    monkeypatch.setattr(compiling, "missing_compiler", lambda: "none was found")
    assert not choose_compile("auto", 1e6)
    assert "none was found" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"trainer.compile=on needs a C\+\+ compiler: none was found"):
        choose_compile("on", 1e6)
