"""Launchers that keep the runs of a sweep apart: what becomes of one changes nothing for another.

Hydra's plugins for joblib and submitit end a sweep with the first process that is lost. These take
their places under the same names. Each run has a process of its own, and whether it has done what
it should is read from its run.json.
"""

import multiprocessing
import os
import signal
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from multiprocessing.connection import wait
from typing import Any

from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf

from shine_exp.runs.sweeps.job import Job, pin

# All but the command, which is each process's own main module.
PRELOAD = ["shine_exp.runs.runner", "shine_exp.runs.compatibility", "shine_exp.runs.session"]
LOOK = 1.0  # seconds between looks at submitted jobs
ASK = 15  # looks between questions to the scheduler
Ended = Callable[[int], None]  # told the place of a job that is over, whatever has ended it


class JobLauncher(Launcher):
    """Runs jobs beside each other, and outlives whatever ends one of them."""

    config: DictConfig

    def setup(self, *, hydra_context: Any, task_function: Any, config: DictConfig) -> None:
        self.config = config

    @abstractmethod
    def run(self, jobs: Sequence[Job], ended: Ended) -> None:
        """Until all are over. Raises `KeyboardInterrupt` where interrupted."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Any:
        raise NotImplementedError("a sweep of shine-run gives its runs as jobs")


class JoblibLauncher(JobLauncher):
    """Processes of this machine, `n_jobs` at a time, counted as joblib does: −1 is one a core.

    joblib's own pool ends all workers where one is killed. Here each run is forked from a server
    that has imported everything. Where this process is killed, its runs end as by SIGTERM: after
    their step, and saved.
    """

    def __init__(self, n_jobs: int) -> None:
        self.n_jobs = n_jobs

    def run(self, jobs: Sequence[Job], ended: Ended) -> None:
        from joblib import effective_n_jobs

        if not jobs:
            return
        pin(jobs[0].threads)  # the server's, whose libraries the runs share
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOAD)
        waiting = list(enumerate(jobs))[::-1]
        running: dict[Any, tuple[int, Any]] = {}
        try:
            while waiting or running:
                while waiting and len(running) < effective_n_jobs(self.n_jobs):
                    place, job = waiting.pop()
                    process = context.Process(target=_end_with_parent, args=(job,))
                    process.start()
                    running[process.sentinel] = (place, process)
                for sentinel in wait(list(running)):
                    place, process = running.pop(sentinel)
                    process.join()
                    ended(place)
        except KeyboardInterrupt:
            for _, process in running.values():
                process.terminate()
            for _, process in running.values():
                process.join()
            raise


def _end_with_parent(job: Job) -> None:
    """The job, which is sent SIGTERM where its launcher is killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
    job()


class SubmititLauncher(JobLauncher):
    """Jobs of submitit, with the options of Hydra's plugin, which its configuration checks."""

    cluster: str

    def __init__(self, submitit_folder: str, **options: Any) -> None:
        self.folder = submitit_folder
        self.options = options

    def run(self, jobs: Sequence[Job], ended: Ended) -> None:
        if not jobs:
            return
        with self._submission():
            submitted = self._executor(jobs).submit_array(list(jobs))
        left = dict(enumerate(submitted))
        try:
            for look in count():
                for place in [place for place, job in left.items() if job.done()]:
                    del left[place]
                    ended(place)
                if not left:
                    break
                if look % ASK == 0:
                    self._ask(submitted[0])
                time.sleep(LOOK)
        except KeyboardInterrupt:
            self._interrupt(list(left.values()))
            raise

    def _executor(self, jobs: Sequence[Job]) -> Any:
        import submitit
        from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf

        shared = BaseQueueConf.__dataclass_fields__.keys()
        named = {
            name if name in shared else f"{self.cluster}_{name}": OmegaConf.to_object(value)
            if OmegaConf.is_config(value)
            else value
            for name, value in self.options.items()
        }
        limits = {name: named.pop(name) for name in list(named) if name.endswith("max_num_timeout")}
        if len(jobs) == 1 and named["name"] == self.config.hydra.job.name:
            named["name"] = jobs[0].name
        executor = submitit.AutoExecutor(self.folder, cluster=self.cluster, **limits)
        executor.update_parameters(**named)
        return executor

    @contextmanager
    def _submission(self) -> Iterator[None]:
        yield

    def _ask(self, job: Any) -> None:
        """Learn anew what has become of all jobs, by one of them."""

    def _interrupt(self, jobs: Sequence[Any]) -> None:
        """What becomes of jobs whose sweep is interrupted."""


class LocalLauncher(SubmititLauncher):
    """Processes of this machine, all at once."""

    cluster = "local"

    @contextmanager
    def _submission(self) -> Iterator[None]:
        """Without Ctrl-C, on which submitit kills a job within a second: it gets SIGTERM."""
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _interrupt(self, jobs: Sequence[Any]) -> None:
        """They end after their step, and are waited for."""
        for job in jobs:
            os.kill(int(job.job_id), signal.SIGTERM)
        while not all(job.done() for job in jobs):
            time.sleep(LOOK)


class SlurmLauncher(SubmititLauncher):
    """Jobs of SLURM, as an array. They go on where the sweep is interrupted."""

    cluster = "slurm"

    def _ask(self, job: Any) -> None:
        """submitit itself asks ever more rarely, in the end every ten minutes."""
        job.watcher.update()

    def _interrupt(self, jobs: Sequence[Any]) -> None:
        numbers = sorted({job.job_id.partition("_")[0] for job in jobs})
        print(
            f"{len(jobs)} jobs of SLURM go on, or wait for their turn; the same command waits for "
            f"them again, and scancel {' '.join(numbers)} ends them"
        )
