"""The command line: ``det train data=coco8.yaml``.  The only place that knows argv and stdout.

Thinks in four steps: what was typed becomes words (``detector/words.py``), Typer finds the command
and prints the help, the words become a checked config, and then the command's room is imported.
Results go to stdout, talk to stderr; one line tells what was wrong.  Exit codes: 0, 1 a failed run,
2 a command that can not be run as given, 130 Ctrl-C, 143 SIGTERM.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import typer

from . import __version__
from .detector import help as words_of_help
from .detector.commands import COMMANDS, MODEL_COMMANDS, Command, FlagsConfig
from .detector.knobs import knobs
from .detector.log import Log
from .detector.parse import UsageError, convert, parse
from .detector.show import as_lines, show_exports, show_measured, show_report, show_run
from .detector.terminated import sigterm_raises
from .detector.train.distributed import Place, place, several
from .detector.words import Call, read_words

EPILOG = (
    "det COMMAND --help lists the options of a command; epochs=50 and --epochs 50 mean the same. "
    f"Begin with: {COMMANDS[0].example}"
)
DEFAULTS = "defaults"
"""The hidden sub-command that ``det config`` alone stands for."""


@dataclass(frozen=True)
class Outcome:
    """What a command hands back.  result: for machines.  text: for people.  code: to exit with."""

    result: dict[str, Any]
    text: str = ""
    code: int = 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code.  argv: the words after ``det``, or sys.argv's."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return _run(arguments)
    except BrokenPipeError:  # the reader of a pipe has seen enough, as in: det config | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  the one place errors end
        return _report(error, arguments)


def _run(arguments: list[str]) -> int:
    if arguments[:1] in (["--version"], ["-V"]):
        print(f"det {__version__}")
        return 0
    call = read_words(arguments)
    group = typer.main.get_command(_app())
    chosen = group.main(args=_canonical(call), prog_name="det", standalone_mode=False)
    if not isinstance(chosen, tuple):
        return 0  # help has been printed
    command, words = chosen
    return _execute(command, words, arguments)


def _canonical(call: Call) -> list[str]:
    """The call in the one form that Typer is given: ``--option=value``."""
    if call.help:
        return [*call.path, "--help"]
    path = [*call.path, DEFAULTS] if call.path == ("config",) else list(call.path)
    flags = knobs(FlagsConfig)
    for name, value in call.words.items():
        option = "--" + name.replace("_", "-")
        if name not in flags:
            path.append(f"{option}={value}")
        elif convert(flags[name], value):
            path.append(option)
    return path


def _app() -> typer.Typer:
    """Typer's commands, made from the catalogue."""
    app = _group("A YOLO-style object detection trainer.", EPILOG)
    groups = {
        "data": _group("Look through a data set, or draw one."),
        "bench": _group("Measure choices side by side on this machine."),
        "weights": _group("List, look at, convert and download pretrained weights."),
        "config": _group("Print options as YAML: all defaults, or the values of one command."),
    }
    for command in COMMANDS:
        run = words_of_help.with_options(command)
        home, name = app, command.path[-1]
        if command.path[0] in groups:
            home = groups[command.path[0]]
        hidden = command.path == ("config",)
        home.command(DEFAULTS if hidden else name, hidden=hidden)(run)
    for name, group in groups.items():
        app.add_typer(group, name=name)
    return app


def _group(summary: str, epilog: str | None = None) -> typer.Typer:
    settings = {"help_option_names": ["-h", "--help"]}
    return typer.Typer(
        help=summary, epilog=epilog, context_settings=settings, add_completion=False,
        pretty_exceptions_enable=False,
    )  # fmt: skip


def _execute(command: Command, words: dict[str, Any], arguments: list[str]) -> int:
    """Words -> config -> result, printed; returns the exit code."""
    flags, _ = parse(FlagsConfig, {n: words.pop(n) for n in knobs(FlagsConfig) if n in words})
    prints_config = command.path[0] == "config"
    if flags.quiet and not prints_config and "verbose" in command.options:
        _quieten(words)
    config, given = parse(command.config, words)
    trains = command.path == ("train",)
    here = place() if trains else Place()
    if trains and here.size == 1 and (ranks := several(config.device)):
        return _start_ranks(config, given, arguments, len(ranks))
    log = Log(verbose=not flags.quiet and getattr(config, "verbose", True))
    with (
        contextlib.nullcontext() if trains else sigterm_raises(),  # training saves first, by itself
        contextlib.redirect_stdout(sys.stderr),  # whatever a library prints is talk
    ):
        outcome = _HANDLERS[command.path[0]](command, config, given, log)
    if here.rank:
        return outcome.code  # the first rank speaks
    if flags.json:
        _print_json(
            ok=outcome.code == 0, command=command.name, result=outcome.result,
            warnings=log.warnings,
        )  # fmt: skip
    else:
        print(outcome.text, flush=True)
    return outcome.code


def _start_ranks(config: Any, given: frozenset[str], arguments: list[str], ranks: int) -> int:
    """The same command again, once for each GPU that it names."""
    from .detector import checks
    from .detector.train.launch import launch

    checks.check_train(config, given)
    return launch([sys.executable, "-m", f"{__package__}.cli", *arguments], ranks)


def _quieten(words: dict[str, Any]) -> None:
    if words.setdefault("verbose", "false").lower() in ("true", "yes", "1"):
        raise UsageError("--quiet contradicts verbose=True: give one of them")


def _print_json(**content: Any) -> None:
    from .detector.runs import plain

    print(json.dumps(plain(content), allow_nan=False), flush=True)


# ---------------------------------------------------------------------------- the commands


def _train(command: Command, config: Any, given: frozenset[str], log: Log) -> Outcome:
    from .detector import checks

    if place().size == 1:  # several check when they have met, so that one says what is wrong
        checks.check_train(config, given)
    from .detector import api  # torch, only now

    result = api.train(config, given, log)
    return Outcome(result, show_run(result))


def _val(command: Command, config: Any, given: frozenset[str], log: Log) -> Outcome:
    from .detector import checks

    checks.check_val(config, given)
    from .detector import api

    result = api.val(config, given, log)
    return Outcome(result, show_run(result))


def _predict(command: Command, config: Any, given: frozenset[str], log: Log) -> Outcome:
    from .detector import checks

    checks.check_predict(config, given, source_needed=True)
    from .detector import api

    result = api.predict(config, given, log)
    return Outcome(result, show_run(result))


def _export(command: Command, config: Any, given: frozenset[str], log: Log) -> Outcome:
    from .detector.checks_export import check_export

    check_export(config, given)
    from .detector import api

    result = api.export(config, given, log)
    return Outcome(result, show_exports(result), 0 if result["passed"] else 1)


def _data(command: Command, config: Any, given: frozenset[str], log: Log) -> Outcome:
    return _data_shapes(config, log) if command.path[-1] == "shapes" else _data_check(config, log)


def _data_check(config: Any, log: Log) -> Outcome:
    from .datasets.config import load_dataset
    from .datasets.doctor import check_dataset

    with log.progress("fetching", 0) as update:
        dataset = load_dataset(
            config.data, download=config.download, on_message=log.message, on_progress=update
        )
    with log.progress("checking", 0) as update:
        report = check_dataset(dataset, on_progress=update)
    return Outcome(report.to_dict(), show_report(report), 1 if report.count("error") else 0)


def _data_shapes(config: Any, log: Log) -> Outcome:
    val = max(config.n // 5, 1) if config.val is None else config.val
    train = config.n - val - config.test
    if train < 1:
        held = f"val={val} and test={config.test}"
        raise UsageError(f"n={config.n} leaves no image for training beside {held}: use more")
    from .datasets.shapes import write_shapes

    with log.progress("drawing", config.n, report=True) as update:
        path = write_shapes(
            Path(config.out), train=train, val=val, test=config.test, seed=config.seed,
            size=config.imgsz, on_progress=update,
        )  # fmt: skip
    result = {"data": str(path), "train": train, "val": val, "test": config.test}
    return Outcome(result, f"drawn: {path}\nuse it: det train data={path}")


def _info(command: Command, config: Any, given: frozenset[str], log: Log) -> Outcome:
    if config.model is None:
        from .detector.environment import describe_machine

        result = {"yolodet": __version__, **describe_machine()}
    else:
        from .detector import shelf

        result = shelf.describe(config.model)
    return Outcome(result, "\n".join(as_lines(result)))


def _weights(command: Command, config: Any, given: frozenset[str], log: Log) -> Outcome:
    from .detector import shelf

    if command.path[-1] == "list":
        result = shelf.list_weights()
        return Outcome(result, shelf.as_table(result))
    run: dict[str, Callable[[Any, Log], dict[str, Any]]] = {
        "info": shelf.info,
        "convert": shelf.convert_file,
        "download": shelf.fetch,
    }
    result = run[command.path[-1]](config, log)
    return Outcome(result, "\n".join(as_lines(result)))


def _config(command: Command, config: Any, given: frozenset[str], log: Log) -> Outcome:
    from .detector.train import lengths

    if command.path != ("config",):
        of = next(other for other in MODEL_COMMANDS if other.path == command.path[1:])
        text = f"# det {of.name}: {of.summary} Use this with det {of.name} cfg=FILE.\n"
        text += words_of_help.as_yaml(of, asdict(config))
        if of.name == "train":
            text += "\n" + lengths.of_run(config)
        return Outcome(asdict(config), text.rstrip())
    defaults = {c.name: {n: k.default for n, k in knobs(c.config).items()} for c in MODEL_COMMANDS}
    text = words_of_help.all_as_yaml() + "\n" + lengths.as_comments(lengths.examples())
    if config.markdown:
        text = words_of_help.as_markdown()
    elif config.options:
        text = words_of_help.option_list()
    return Outcome(defaults, text.rstrip())


def _amp(command: Command, config: Any, given: frozenset[str], log: Log) -> Outcome:
    from .detector import checks

    checks.check_amp(config)
    from .detector import api

    result = api.amp(config, given, log)
    return Outcome(result, show_measured(result), 0 if result["passed"] else 1)


def _bench(command: Command, config: Any, given: frozenset[str], log: Log) -> Outcome:
    if command.path[-1] == "export":
        return _bench_export(config, given, log)
    from .detector import checks

    checks.check_bench_amp(config)
    from .detector.examine.amp_bench import bench_amp

    result = bench_amp(config, log)
    return Outcome(result, show_measured(result))


def _bench_export(config: Any, given: frozenset[str], log: Log) -> Outcome:
    from .detector.checks_export import check_bench_export

    check_bench_export(config, given)
    from .detector import api

    result = api.bench_export(config, given, log)
    return Outcome(result, show_measured(result))


_HANDLERS: dict[str, Callable[[Command, Any, frozenset[str], Log], Outcome]] = {
    "train": _train,
    "val": _val,
    "predict": _predict,
    "export": _export,
    "data": _data,
    "info": _info,
    "weights": _weights,
    "config": _config,
    "amp": _amp,
    "bench": _bench,
}


# ---------------------------------------------------------------------------- errors


def _report(error: BaseException, arguments: list[str]) -> int:
    """Say what went wrong in one line on stderr; returns the exit code."""
    message, code = _explain(error)
    if getattr(error, "silent", False):  # another rank of the run says it
        return code
    if _asked(arguments, "debug"):
        traceback.print_exception(error)
    kind = "error: " if code < 128 else ""  # stopping on a signal is no error
    print(f"det: {kind}{message}", file=sys.stderr)
    if _asked(arguments, "json"):
        _print_json(ok=False, error=message, exit_code=code)
    return code


def _asked(arguments: list[str], flag: str) -> bool:
    """Whether a flag was typed, also where the rest could not be understood."""
    return f"--{flag}" in arguments or f"{flag}=true" in [word.lower() for word in arguments]


def _explain(error: BaseException) -> tuple[str, int]:
    """One line and an exit code for an error."""
    torch = sys.modules.get("torch")  # it is loaded where it can have raised anything
    if hasattr(error, "exit_code"):
        return _one_line(error), int(error.exit_code)
    if isinstance(error, KeyboardInterrupt):
        return "stopped by Ctrl-C", 130
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return "out of GPU memory: use a smaller batch= or imgsz=", 1
    if isinstance(error, MemoryError):
        return "out of memory: use a smaller batch=, or cache=none", 1
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}", 1
    if isinstance(error, OSError):
        return _one_line(error), 1
    text = f"{type(error).__name__}: {_one_line(error)}"
    return f"this is a bug in det ({text}); run again with --debug and report what it prints", 1


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
