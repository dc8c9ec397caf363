"""Which problem, data, solver, outer loop and method go together: refused before any work.

Nothing is listed here. The classes themselves are asked, and the alternatives that a refusal names
are the options in conf/ (and in the user's own folder) whose classes would do.
"""

import inspect
from typing import Any

from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf
from typing_extensions import get_protocol_members

from shine_exp.errors import UnsupportedSolver, UnsupportedSystem, UserError
from shine_exp.loop import OuterLoop
from shine_exp.processes import processes
from shine_exp.runs.composition import default, options
from shine_exp.runs.identity import flat
from shine_exp.runs.problem import data_kind, kind_of
from shine_exp.runs.validation import check_groups, located, parameters
from shine_exp.types import Solver


def check_classes(config: DictConfig, choices: dict[str, str]) -> None:
    """Raises `UserError` where the classes of problem, data, loop and solver do not fit.

    Asked before the values: what an option sets for others, as method=opa does, is unknown to a
    class that it was not made for.
    """
    check_groups(config)
    _Combination(config, choices).check_classes()


def check_objects(config: DictConfig, choices: dict[str, str]) -> None:
    """Raises `UserError` where solver, loop and method do not fit, or nothing reads the method."""
    _Combination(config, choices).check_objects()


class _Combination:
    """The classes that a configuration names, and the options that they were chosen by."""

    def __init__(self, config: DictConfig, choices: dict[str, str]) -> None:
        self.config, self.choices = config, choices
        self.problem: Any = kind_of(config, "problem")
        self.loop: Any = located("outer._target_", config.outer._target_)
        named = ("problem", "outer", "solver", "method")
        self.names = " ".join(f"{group}={choices[group]}" for group in named)

    def check_classes(self) -> None:
        self._check_problem()
        self._check_data()
        _require("outer", self.loop, OuterLoop, self.config)
        self._check_loop()
        self._check_device()
        self._check_processes()
        if self.config.solver.get("opa") is not None:
            self._check_opa()

    def check_objects(self) -> None:
        solver = instantiate(self.config.solver)
        _require("solver", solver, Solver, self.config)
        self._check_solver(solver)
        self._check_method(solver)

    def _check_problem(self) -> None:
        target = self.config.problem._target_
        if lacking := sorted(getattr(self.problem, "__abstractmethods__", ())):
            raise UserError(f"problem._target_={target}: has no {', '.join(lacking)}")
        if not hasattr(self.problem, "seeks"):
            raise UserError(
                f"problem._target_={target}: makes neither a shine_exp.BilevelProblem nor a "
                "shine_exp.Task; it must say what a solver has to find: seeks"
            )

    def _check_data(self) -> None:
        needed, problem, data = data_kind(self.config), *map(self.choices.get, ("problem", "data"))
        if "_target_" not in self.config.data:
            if needed is not None and _needs(self.config, "data"):
                raise UserError(f"problem={problem} needs data: {self._data_for(needed)}")
            return
        if needed is None:
            raise UserError(
                f"problem={problem} takes no data: leave data={data} away, or take data=none"
            )
        kind = kind_of(self.config, "data")
        if not _is_a(kind, needed):
            raise UserError(
                f"problem={problem} cannot use data={data}, which gives {kind.__name__}: "
                f"{self._data_for(needed)}"
            )

    def _data_for(self, needed: Any) -> str:
        def gives_it(node: DictConfig) -> bool:
            return "_target_" in node and _is_a(kind_of(DictConfig({"data": node}), "data"), needed)

        return self._take("data", gives_it)

    def _check_loop(self) -> None:
        needed, outer = self.loop.problem_type, self.choices["outer"]
        if not issubclass(self.problem, needed):

            def takes_it(node: DictConfig) -> bool:
                return issubclass(self.problem, get_object(node._target_).problem_type)

            base = f"{needed.__module__}.{needed.__qualname__}"
            raise UserError(
                f"{self.names}: outer={outer} is made for problems that are a {base}; "
                f"for this one {self._take('outer', takes_it)}"
            )

    def _check_device(self) -> None:
        """Whether anything reads the options that are for networks, or for a GPU."""
        outer, runtime = self.config.outer, self.config.runtime
        if outer.get("precision") == "tf32" and runtime.device == "cpu":
            raise UserError(
                "outer.precision=tf32: only a GPU rounds so, and runtime.device=cpu; take "
                "runtime.device=cuda, or outer.precision=float32"
            )
        for option in ("graph", "compile"):
            if runtime[option] == "on" and self.problem.seeks != "root":
                raise UserError(
                    f"runtime.{option}=on: problem={self.choices['problem']} trains no network, "
                    f"so that nothing would read it; take runtime.{option}=auto"
                )

    def _check_processes(self) -> None:
        """Whether what is to be done can be shared by the processes that were started for it."""
        n = processes().n
        if n > 1 and not getattr(self.loop, "shares_batches", False):
            raise UserError(
                f"WORLD_SIZE={n}: several processes can share the training of a network, and not "
                f"{self.names}; start it as one process"
            )
        if n > 1 and self.config.runtime.graph == "on":
            raise UserError(
                f"runtime.graph=on: with {n} processes (WORLD_SIZE) a step is no CUDA graph; take "
                "runtime.graph=auto"
            )

    def _check_opa(self) -> None:
        if not _has_opa(self.config.solver):

            def takes_it(node: DictConfig) -> bool:
                return self._finds_it(node) and _has_opa(node)

            raise UnsupportedSolver(
                f"{self.names}: OPA needs a solver that takes extra updates: "
                f"{self._take('solver', takes_it)}"
            )
        if not self.loop.needs_gradient:
            raise UserError(
                f"solver.opa={self.config.solver.opa}: outer={self.choices['outer']} tells the "
                "solver of no outer gradient, so that nothing would read it; leave it out"
            )

    def _finds_it(self, node: DictConfig) -> bool:
        return bool(instantiate(node).finds == self.problem.seeks)

    def _check_solver(self, solver: Any) -> None:
        if solver.finds != self.problem.seeks:
            raise UnsupportedSolver(
                f"{self.names}: this problem needs a solver that finds a {self.problem.seeks}: "
                f"{self._take('solver', self._finds_it)}"
            )

    def _check_method(self, solver: Any) -> None:
        node, names = self.config.method, self.names
        is_read = _is_read("method", self.config)
        if is_read and not node:
            outer, method = self.choices["outer"], self.choices["method"]
            others = [f"{group}={self.choices[group]}" for group in ("problem", "method")]
            brought = default(others).choices["outer"] == outer
            way_out = "" if brought else "leave outer to the method, or "
            by_whom = f", which problem={self.choices['problem']} brings," if brought else ""
            raise UserError(
                f"{names}: outer={outer}{by_whom} needs a method with an inverse, and "
                f"method={method} brings none; {way_out}{self._take('method', self._suits)}"
            )
        if not is_read and node and not self._came_by_itself("method"):
            raise UserError(
                f"{names}: outer={self.choices['outer']} reads no method; leave one of them away"
            )
        if not is_read or not node:
            return
        self._check_inverse(instantiate(node), solver)

    def _check_inverse(self, method: Any, solver: Any) -> None:
        """Whether the inverse method goes with the solver and with the problem's system."""
        node, names = self.config.method, self.names
        if not callable(method):
            raise UserError(
                f"method._target_={node._target_}: cannot be called; "
                "see shine_exp.types.InverseMethod"
            )
        if getattr(method, "uses_estimate", False) and not solver.leaves_estimate:

            def leaves_one(node: DictConfig) -> bool:
                return self._finds_it(node) and instantiate(node).leaves_estimate

            def needs_no_estimate(node: DictConfig) -> bool:
                return self._suits(node) and not getattr(instantiate(node), "uses_estimate", False)

            raise UnsupportedSolver(
                f"{names}: this method uses the solver's inverse estimate and this solver leaves "
                f"none: {self._take('solver', leaves_one)}; or "
                f"{self._take('method', needs_no_estimate)}"
            )
        if hasattr(method, "check_system"):
            method.check_system(symmetric=self.problem.seeks == "minimum")
        if getattr(method, "needs_symmetry", False) and self.problem.seeks != "minimum":
            raise UnsupportedSystem(
                f"{names}: this method needs a symmetric system, and this problem has none: "
                f"{self._take('method', self._suits)}"
            )

    def _suits(self, node: DictConfig) -> bool:
        """Whether a method applies to this problem. One that raises in `options` does not."""
        if not node:
            return False
        method, symmetric = instantiate(node), self.problem.seeks == "minimum"
        if hasattr(method, "check_system"):
            method.check_system(symmetric=symmetric)
        return symmetric or not getattr(method, "needs_symmetry", False)

    def _came_by_itself(self, group: str) -> bool:
        """Whether a group has the option that it would have if the command had not named one."""
        others = [f"{name}={self.choices[name]}" for name in ("problem", "data")]
        return default(others).choices[group] == self.choices[group]

    def _take(self, group: str, does: Any) -> str:
        found = options(group, {"problem": self.choices["problem"]}, does)
        return f"take {group}={', '.join(found)}" if found else f"no option of {group} would do"


def _require(group: str, made: Any, protocol: type, config: DictConfig) -> None:
    """Refuse what is not ours and lacks what its protocol has."""
    lacking = sorted(name for name in get_protocol_members(protocol) if not hasattr(made, name))
    if lacking:
        where = f"{protocol.__module__}.{protocol.__qualname__}"
        raise UserError(
            f"{group}._target_={config[group]._target_}: has no {', '.join(lacking)}; see {where}"
        )


def _has_opa(solver: DictConfig) -> bool:
    return "opa" in parameters("solver.", solver)


def _needs(config: DictConfig, name: str) -> bool:
    """Whether the problem cannot be made without a parameter."""
    parameter = inspect.signature(get_object(config.problem._target_)).parameters[name]
    return parameter.default is inspect.Parameter.empty


def _is_a(kind: type, needed: Any) -> bool:
    """Whether an annotation of a parameter takes objects of a class."""
    if needed is Any or needed is object:
        return True
    members = getattr(needed, "__args__", (needed,))  # of a union
    return any(inspect.isclass(one) and issubclass(kind, one) for one in members)


def _is_read(group: str, config: DictConfig) -> bool:
    """Whether anything outside of a group takes its value from there."""
    written = OmegaConf.to_container(config, resolve=False)
    assert isinstance(written, dict)
    leaves = flat({key: value for key, value in written.items() if key != group})
    return any(
        str(value).startswith((f"${{{group}}}", f"${{{group}.")) for value in leaves.values()
    )
