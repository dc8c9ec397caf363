"""The sweeper of `shine-run`: Hydra's, which launches only what is left to do."""

import gc
import sys
from collections.abc import Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus

from shine_exp.errors import RunRefused
from shine_exp.runs.composition import separated

PLUGIN = "hydra_plugins.shine_exp"  # as conf/config.yaml calls this module


class ShineSweeper(BasicSweeper):
    """Composes each run once, and submits no job for those that are done."""

    def setup(self, **context: Any) -> None:
        super().setup(**context)
        assert self.launcher is not None
        self.launcher.launch = _launching(self.launcher.launch)  # type: ignore[method-assign]

    def sweep(self, arguments: list[str]) -> Any:
        gc.freeze()  # what was imported stays; what is composed from now on is garbage soon
        gc.enable()
        return super().sweep(arguments)

    def get_job_batch(self) -> Sequence[Sequence[str]]:
        """The runs of the next batch that are not done.

        Raises Hydra's errors for one that cannot be composed.
        """
        return [
            overrides for overrides in super().get_job_batch() if not self._passed_over(overrides)
        ]

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Nothing: `get_job_batch` has composed them."""

    def _passed_over(self, overrides: Sequence[str]) -> bool:
        assert self.hydra_context is not None
        assert self.config is not None
        loader = self.hydra_context.config_loader
        composed = separated(loader.load_sweep_config(self.config, list(overrides)))
        try:
            from shine_exp.runs.runner import passed_over

            return passed_over(composed.config, composed.choices) is not None
        except Exception:  # whatever is wrong with this run, it says so itself, and others go on
            return False


def _launching(launch: Any) -> Any:
    """A launcher's `launch` that needs no runs, and hands on a bug before what was only refused."""

    def launch_some(
        job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        returns: Sequence[JobReturn] = (
            launch(job_overrides, initial_job_idx) if job_overrides else []
        )
        failed = [job for job in returns if job.status is JobStatus.FAILED]
        bugs = [job for job in failed if not isinstance(job._return_value, RunRefused)]
        if failed and not bugs:
            raise failed[0]._return_value  # `return_value` would print it, once more
        return bugs or returns

    return launch_some


def register(plugins: Plugins) -> None:
    """Make the sweeper known to Hydra, which takes plugins only from its own package."""
    ShineSweeper.__module__ = PLUGIN
    sys.modules[PLUGIN] = sys.modules[__name__]
    plugins.register(ShineSweeper)
