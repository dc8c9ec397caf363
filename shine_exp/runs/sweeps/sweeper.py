"""The sweeper of `shine-run`: it launches what is left to do, and says what came of all."""

import contextlib
import gc
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra._internal.utils import get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from shine_exp.errors import UserError
from shine_exp.processes import started
from shine_exp.runs.composition import Composed, combinations, separated
from shine_exp.runs.signals import silence_stdout
from shine_exp.runs.state import State, is_locked
from shine_exp.runs.sweeps import launchers
from shine_exp.runs.sweeps.job import Job, forget_refusal
from shine_exp.runs.sweeps.outcome import Outcome, judge
from shine_exp.runs.sweeps.record import (
    SWEEPS,
    Sweep,
    SweepRun,
    sweep_name,
    write_end,
    write_record,
)

PLUGIN = "hydra_plugins.shine_exp"  # as conf/ calls what stands here
IN_PLACE_OF_PLUGINS = {
    "submitit_local": launchers.LocalLauncher,
    "submitit_slurm": launchers.SlurmLauncher,
}
LOOK = 2.0  # seconds between looks at runs that others are at work on


class ShineSweeper(Sweeper):
    """Composes each run once, submits no job for those that are done, and judges all at the end.

    `max_batch_size` runs are launched at a time, and `params` are what an experiment sweeps over,
    as with Hydra's own.
    """

    def __init__(self, max_batch_size: int | None, params: DictConfig | None) -> None:
        self.max_batch_size = max_batch_size
        self.params: Mapping[Any, Any] = params or {}

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.loader = hydra_context.config_loader
        self.of_all = config
        self.launches: Any = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Raises `UserError` where runs were refused, `SystemExit` with 1 where they failed."""
        if (n := started().n) > 1:
            raise UserError(
                f"-m: each of the {n} processes (WORLD_SIZE) would make the same sweep; start one, "
                "and hydra/launcher=slurm hydra.launcher.tasks_per_node=N gives each run N"
            )
        gc.freeze()  # what was imported stays; what is composed from now on is garbage soon
        gc.enable()
        self.root = Path(self.of_all.runtime.results)
        params = [f"{key}={values}" for key, values in self.params.items()]
        runs = combinations([*params, *arguments], self.loader)
        if self.of_all.runtime.dry_run:
            self._foretell(runs)
            return
        planned = [self._planned(overrides) for overrides in runs]
        self.plan = self._sweep([run for run, _ in planned])
        self.outcome = Outcome(self.root, self.plan)
        todo = [place for place, (_, done) in enumerate(planned) if not done]
        n_left = len(todo)
        self._begin(n_left)
        try:
            while todo:
                size = self.max_batch_size or len(todo)
                for first in range(0, len(todo), size):
                    self._launch(todo[first : first + size])
                todo = self._left_by_others(todo)
        finally:
            states = self.outcome.states()
            table = self.outcome.table(states)
            say(table)
            if n_left:
                write_end(self.root, self.plan, table)
        judge(states)

    def _composed(self, overrides: Sequence[str]) -> Composed:
        """Raises Hydra's errors for a run that cannot be composed."""
        return separated(self.loader.load_sweep_config(self.of_all, list(overrides)))

    def _planned(self, overrides: Sequence[str]) -> tuple[SweepRun, bool]:
        """A run, and whether nothing is left to do."""
        from shine_exp.runs.identity import identify
        from shine_exp.runs.runner import found

        composed = self._composed(overrides)
        run, done = SweepRun(overrides, None), False
        # Whatever is wrong with this run, it says so itself, and others go on. What this machine
        # does not have, a GPU, the job's may have.
        with contextlib.suppress(Exception):
            identity = identify(composed.config, composed.choices)
            folder = Path(composed.config.runtime.results, identity.folder)
            run = SweepRun(overrides, os.path.relpath(folder, self.root))
            _, done = found(composed.config, composed.choices, verbose=False)
        return run, done

    def _foretell(self, runs: Sequence[Sequence[str]]) -> None:
        """A line for each run, of what it would do. Raises `UserError` where one is refused."""
        from shine_exp.runs.dry_run import foretold

        refused = 0
        for overrides in runs:
            composed = self._composed(overrides)
            try:
                print(foretold(composed.config, composed.choices))
            except UserError as error:
                refused += 1
                which = [one for one in overrides if not one.startswith("runtime.dry_run")]
                print(f"{' '.join(which)}: refused: {error}")
        if refused:
            raise UserError(f"{refused} of {len(runs)} runs would be refused, as is said above")

    def _sweep(self, runs: Sequence[SweepRun]) -> Sweep:
        arguments = sys.argv[1:]
        config_dir = get_args_parser().parse_intermixed_args(arguments).config_dir
        options = [] if config_dir is None else [f"--config-dir={config_dir}"]
        title = self.of_all.hydra.runtime.choices.get("experiment") or "sweep"
        name = sweep_name(title, [run.overrides for run in runs])
        return Sweep(name, arguments, options, runs)

    def _begin(self, n_left: int) -> None:
        n = len(self.plan.runs)
        if n_left == 0:
            say(f"{n} done already, nothing to do")
            return
        write_record(self.root, self.plan)
        logs = "" if self._is_in_turn else f", logs in {self.root / SWEEPS}"
        say(f"{n - n_left} done already, {n_left} submitted{logs}")

    @property
    def _is_in_turn(self) -> bool:
        """Whether the runs are made in this process, one after the other."""
        return str(self.of_all.hydra.runtime.choices["hydra/launcher"]) == "basic"

    def _launch(self, todo: Sequence[int]) -> None:
        """Until the processes of these runs are over, whatever has ended them."""
        for place in todo:
            forget_refusal(self.outcome.job(place))
        from shine_exp.runs.sweeps.progress import SweepProgress  # for a sweep with work to do only

        with SweepProgress(len(todo)) as progress:

            def ended(index: int) -> None:
                with contextlib.suppress(BrokenPipeError):
                    progress.ended(self.outcome.state(todo[index]), self.outcome.name(todo[index]))

            if isinstance(self.launches, launchers.JobLauncher):
                self.launches.run([self._job(place) for place in todo], ended)
                return
            # Hydra's own launcher makes one after the other; one from elsewhere is not to.
            at_a_time = 1 if self._is_in_turn else len(todo)
            for first in range(0, len(todo), at_a_time):
                batch = todo[first : first + at_a_time]
                overrides = [
                    [*self.plan.runs[place].overrides, *self._of_job(place)] for place in batch
                ]
                self.launches.launch(overrides, initial_job_idx=batch[0])
                for index in range(first, first + len(batch)):
                    ended(index)

    def _of_job(self, place: int) -> list[str]:
        """What makes a run a job of a sweep for Hydra: its name, and the folder of its log."""
        folder = self.outcome.job(place).relative_to(self.root / SWEEPS)
        name = _quoted(self._job_name(place))
        return [f"hydra.job.name={name}", f"hydra.sweep.subdir={_quoted(str(folder))}"]

    def _job(self, place: int) -> Job:
        """The run as a command of its own."""
        folder = self.outcome.job(place)
        to_folder = f"hydra.run.dir={_quoted(str(folder))}"
        arguments = [*self.plan.options, *self.plan.runs[place].overrides, to_folder]
        return Job(self._job_name(place), arguments, folder, self.of_all.runtime.threads)

    def _job_name(self, place: int) -> str:
        """Method and seed, as in cg-seed=1."""
        folder = self.plan.runs[place].folder
        return "-".join(Path(folder).parts[1:]) if folder else f"refused-{place}"

    def _left_by_others(self, todo: Sequence[int]) -> list[int]:
        """The runs that another process was at work on and has not taken to their end.

        It is waited for.
        """
        states = {place: self.outcome.state(place) for place in todo}
        at_work = [place for place, run in states.items() if run.state is State.RUNNING]
        if at_work:
            who = ", ".join(sorted({states[place].place for place in at_work}))
            say(f"waiting for {len(at_work)} runs that others are at work on ({who})")
        for place in at_work:
            while is_locked(states[place].folder):
                time.sleep(LOOK)
        return [place for place in at_work if not self.outcome.state(place).state.is_end]


def say(text: str) -> None:
    """Print at once; where the reader has gone (`| head`), a sweep goes on without one."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        silence_stdout()


def _quoted(text: str) -> str:
    """As a value of Hydra's grammar."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def register(plugins: Plugins) -> None:
    """Make the sweeper and the launchers known to Hydra, which takes plugins from its package only.

    A launcher takes the place of the plugin of its name, with the options of that one that it has.
    """
    of_ours: list[type] = [ShineSweeper, launchers.JoblibLauncher, *IN_PLACE_OF_PLUGINS.values()]
    plugins.class_name_to_class |= {f"{PLUGIN}.{each.__name__}": each for each in of_ours}
    store = ConfigStore.instance()
    for name, each in IN_PLACE_OF_PLUGINS.items():
        store.repo["hydra"]["launcher"][f"{name}.yaml"].node._target_ = f"{PLUGIN}.{each.__name__}"
    joblib = {"_target_": f"{PLUGIN}.JoblibLauncher", "n_jobs": -1}
    store.store(group="hydra/launcher", name="joblib", node=joblib, provider="shine-exp")
