"""The sweeper of `shine-run`: Hydra's, which launches only what is left to do.

Hydra finds plugins in the namespace `hydra_plugins` alone.
"""

from collections.abc import Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from omegaconf import OmegaConf

from shine_exp.runner import passed_over


class ShineSweeper(BasicSweeper):  # type: ignore[misc]
    """Composes each run once and passes over those that are done, so that no job is submitted for them."""

    def sweep(self, arguments: list[str]) -> Any:
        launch = self.launcher.launch
        self.launcher.launch = lambda jobs, initial_job_idx: launch(jobs, initial_job_idx) if jobs else []
        return super().sweep(arguments)

    def get_job_batch(self) -> Sequence[Sequence[str]]:
        """The runs of the next batch that are not done. Raises Hydra's errors for one that cannot be composed."""
        return [overrides for overrides in super().get_job_batch() if not self._passed_over(overrides)]

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Nothing: `get_job_batch` has composed them."""

    def _passed_over(self, overrides: Sequence[str]) -> bool:
        config = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
        choices = dict(config.hydra.runtime.choices)
        OmegaConf.set_struct(config, False)
        del config["hydra"]
        try:
            return passed_over(config, choices)
        except Exception:  # whatever is wrong with this run, it says so itself, and the others go on
            return False
