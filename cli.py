"""The command line: ``det train data=coco8.yaml``.  The only place that knows argv and stdout.

What was typed becomes a command and words (``detector/options/argv.py``), the words become a
checked config (``parse.py``), and the command's file in ``detector/commands`` runs it.
Results go to stdout, everything else to stderr; an error is one line.  Exit codes: 0 success, 1 a
failed run, 2 a command that cannot be run as given, 130 Ctrl-C, 143 SIGTERM, 129 SIGHUP.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys
from collections.abc import Sequence
from typing import Any

from .detector.options.argv import read_words
from .detector.options.catalog import Command
from .detector.options.errors import UsageError
from .detector.options.fields import options_of
from .detector.options.parse import parse
from .detector.options.project_file import project_defaults, used_defaults
from .detector.options.shared import FlagsConfig
from .files.text import excerpt, one_line
from .files.version import __version__


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code.  argv: the words after ``det``, or sys.argv's."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, io.TextIOWrapper):  # an ASCII terminal gets escapes, not an error
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        return _run(arguments)
    except BrokenPipeError:  # the reader of a pipe has seen enough, as in: det config | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  every error ends here
        return _report(error, arguments)


def _run(arguments: list[str]) -> int:
    if arguments[:1] in (["--version"], ["-V"], ["-v"], ["version"]):
        print(f"det {__version__}")
        return 0
    call = read_words(arguments)
    if call.command is None:
        from .detector.options.help import print_help

        print_help(call.path)
        return 0
    return _execute(call.command, dict(call.words), arguments)


def _start_ranks(
    config: Any, given: frozenset[str], arguments: list[str], gpus: Sequence[str]
) -> int:
    """Run the same command again, in one process per GPU of ``device=0,1``."""
    from .detector.checkpoints.check import named_start
    from .detector.repeat.check import check_trainings
    from .detector.run.launch import launch

    check_trainings(*named_start(config, given))
    from .detector.run.device import pick_device

    for gpu in gpus:  # one error now instead of one per process
        pick_device(gpu)
    return launch([sys.executable, "-m", str(__package__), *arguments], len(gpus))


def _execute(command: Command, words: dict[str, Any], arguments: list[str]) -> int:
    """Words -> config -> result, printed; returns the exit code."""
    flags, _ = parse(FlagsConfig, {n: words.pop(n) for n in options_of(FlagsConfig) if n in words})
    prints_config = command.path[0] == "config"
    if flags.quiet and not prints_config and "verbose" in command.options:
        _quieten(words)
    notes: list[str] = []
    defaults = project_defaults(command.config) if command.cfg and "resume" not in words else {}
    config, given = parse(command.config, words, notes, defaults)
    from .detector.run.log import Log
    from .detector.run.rank_info import RankInfo, gpus_of, rank_info
    from .detector.run.signals import sigterm_raises

    trains = command.path == ("train",)
    as_json = flags.json or (trains and _streams(config.log))
    if as_json:
        arguments.append("--json")  # an error's line too, and the ranks of a run
    here = rank_info() if trains else RankInfo()
    if trains and here.size == 1 and (gpus := gpus_of(config.device)):
        return _start_ranks(config, given, arguments, gpus)
    room = importlib.import_module(f"{__package__}.detector.commands.{command.module}")
    log = Log(verbose=not flags.quiet and getattr(config, "verbose", True), bare=as_json)
    if here.rank == 0:
        if line := used_defaults(defaults, config, words):
            log.info(line)
        log.once(notes)
    with (
        contextlib.nullcontext() if trains else sigterm_raises(),  # training saves first, by itself
        contextlib.redirect_stdout(sys.stderr),  # whatever a library prints is no result
    ):
        outcome = room.execute(command, config, given, log)
    if here.rank:
        return outcome.code  # rank 0 prints the result
    if as_json:
        _print_json(
            ok=outcome.code == 0, command=command.name, result=outcome.result,
            warnings=log.warnings,
        )  # fmt: skip
    else:
        lines = [excerpt(one_line(line)) for line in outcome.text.split("\n")]
        print("\n".join(lines), flush=True)
    return outcome.code


def _streams(log_word: str | None) -> bool:
    """Whether ``log=`` asks for events on stdout."""
    if log_word is None:
        return False
    from .detector.record.tools import JSON, tools_of

    return JSON in tools_of(log_word)


def _quieten(words: dict[str, Any]) -> None:
    if words.setdefault("verbose", "false").lower() in ("true", "yes", "1"):
        raise UsageError("--quiet contradicts verbose=True: give one of them")


def _print_json(**content: Any) -> None:
    import json

    from .detector.run.files import plain

    print(json.dumps(plain(content), allow_nan=False), flush=True)


def _report(error: BaseException, arguments: list[str]) -> int:
    """Say what went wrong in one line on stderr; returns the exit code."""
    message, code = _explain(error)
    message = excerpt(one_line(message).strip())
    if getattr(error, "silent", False):  # another rank of the run reports it
        return code
    if _asked(arguments, "debug"):
        import traceback

        lines = "".join(traceback.format_exception(error)).split("\n")
        print("\n".join(map(one_line, lines)), file=sys.stderr)
    kind = "error: " if 0 < code < 128 else ""  # neither a finished run nor a signal is an error
    print(f"det: {kind}{message}", file=sys.stderr)
    if _asked(arguments, "json"):
        _print_json(ok=code == 0, error=message, exit_code=code)
    return code


def _asked(arguments: list[str], flag: str) -> bool:
    """Whether a flag was typed, also where the rest could not be understood."""
    return f"--{flag}" in arguments or f"{flag}=true" in [word.lower() for word in arguments]


def _explain(error: BaseException) -> tuple[str, int]:
    """One line and an exit code for an error."""
    torch = sys.modules.get("torch")  # it is loaded where it can have raised anything
    if hasattr(error, "exit_code"):
        return str(error) or type(error).__name__, int(error.exit_code)
    if isinstance(error, KeyboardInterrupt):
        return "stopped by Ctrl-C", 130
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return "out of GPU memory: use a smaller batch= or imgsz=", 1
    if isinstance(error, MemoryError):
        return "out of memory: use a smaller batch=, or cache=none", 1
    if isinstance(error, FileNotFoundError) and _folder_gone():
        return "the current folder does not exist any more: change to another one", 2
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}", 1
    if isinstance(error, OSError):
        return str(error) or type(error).__name__, 1
    text = f"{type(error).__name__}: {error}"
    return f"this is a bug in det ({text}); run again with --debug and report what it prints", 1


def _folder_gone() -> bool:
    """Whether somebody has removed the current folder."""
    try:
        return not os.getcwd()
    except OSError:
        return True


if __name__ == "__main__":
    sys.exit(main())
