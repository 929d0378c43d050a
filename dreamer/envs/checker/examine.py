"""From a config to a report: the environment as its author wrote it first, then as ours."""

from __future__ import annotations

from dreamer.config.schema import EnvConfig
from dreamer.envs.checker.check import check_environment
from dreamer.envs.checker.findings import Finding, Findings, Stop
from dreamer.envs.checker.raw import check_raw, raw_of
from dreamer.envs.checker.seen import Report
from dreamer.envs.make import make_env
from dreamer.envs.spec import Env


def build(config: EnvConfig) -> Env | list[Finding]:
    """The environment without its journal, or what was raised as it was made; a ValueError is the user's to read."""
    findings = Findings()
    try:
        with findings.catching("it cannot be made", "The lines below lead there."):
            return make_env(config).env
    except Stop as stop:
        if isinstance(stop.__cause__, ValueError):
            raise stop.__cause__ from None
        return list(findings)


def examine(env: Env, num_steps: int, seed: int) -> Report:
    """`check_raw` where there is something to see, and `check` unless that found errors, which it would tell again."""
    raw = raw_of(env)
    findings = check_raw(raw, num_steps, seed) if raw is not None else []
    report = Report(findings)
    if report.is_sound:
        report = check_environment(env, num_steps, seed)
        report.findings = [*findings, *report.findings]
    return report
