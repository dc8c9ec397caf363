"""`shine-status`: every run by its state, what is missing, and the commands that make it."""

import argparse
import io
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from shine_exp.errors import UserError
from shine_exp.runs.signals import interruptible, silence_stdout
from shine_exp.status.report import Report, as_json, as_text, commands_of_failed, gather
from shine_exp.version import __version__

DESCRIPTION = """\
Says of every run in a results folder where it stands: done, running, dead (its process has gone
without a word), interrupted, failed, diverged, or unsolved (done, but with solves that missed their
tolerance); and of each sweep and figure what is missing, with the command that makes it. Changes
nothing, so it can be asked at any time."""
EVERY = 2.0  # seconds between looks


def main() -> None:
    """Entry point. Exit code 2 for what the user can mend, 130 where interrupted."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # for a terminal without Unicode
    try:
        options = _parse(sys.argv[1:])
        with interruptible():
            if options.watch:
                watch(options.results)
            print(_printed(gather(options.results), options), flush=True)
    except UserError as error:
        print(f"shine-status: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # `| head` has read enough
        silence_stdout()
    except KeyboardInterrupt:
        sys.exit(130)


def _printed(report: Report, options: argparse.Namespace) -> str:
    if options.json:
        return as_json(report)
    return "\n".join(commands_of_failed(report)) if options.failed else as_text(report)


def watch(root: Path) -> NoReturn:
    """The table, live, until Ctrl-C."""
    from rich.live import Live  # for a terminal only

    from shine_exp.status.table import table

    with Live(table(gather(root)), screen=True, auto_refresh=False) as live:
        while True:
            time.sleep(EVERY)
            live.update(table(gather(root)), refresh=True)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage before it."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see shine-status --help")


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(
        "shine-status",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"shine-status {__version__}")
    parser.add_argument("results", type=Path, help="the folder that shine-run wrote")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="the same as JSON, every run an entry")
    how.add_argument("--watch", action="store_true", help="a live table, until Ctrl-C")
    once_more = "only the commands that redo the runs that failed, a line each"
    how.add_argument("--failed", action="store_true", help=once_more)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
