"""A run in three sentences: how good, when and how long, in which precision and what it brought."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...files.counted import counted
from ..run.words import duration, labeled


def verdict(results: Mapping[str, Any], amp: Mapping[str, Any]) -> list[str]:
    """Sentences about the content of results.json and amp.json."""
    sentences = [_quality(results)]
    if "train_seconds" in results:
        sentences += [_course(results), _precision(results, amp), *_memory(results)]
    else:
        speed = sum(value or 0 for value in (results.get("speed_ms") or {}).values())
        sentences.append(f"{results.get('checkpoint')} was measured in {results.get('precision')}.")
        sentences.append(f"One image takes {speed:.1f} ms.")
    return sentences


def _quality(results: Mapping[str, Any]) -> str:
    metrics = results["metrics"]
    if metrics.get("map") is None:
        return "There is no AP: nothing was measured, or no validation image has a box."
    data = results["data"]
    name = data["name"] if isinstance(data, Mapping) else data
    text = f"AP is {metrics['map']:.3f} (AP50 {metrics['map_50']:.3f}) on "
    text += f"{counted(metrics['num_images'], 'validation image')} of {name}"
    if metrics.get("recall"):
        text += (
            f"; at confidence {metrics['best_conf']:.2f}, {metrics['precision']:.0%} of the boxes "
            f"found are right and {metrics['recall']:.0%} of the objects are found"
        )
    return text + "."


def _course(results: Mapping[str, Any]) -> str:
    best, epochs = results["best_epoch"], counted(results["epochs"], "epoch")
    text = f"Training took {duration(results['train_seconds'])} for {epochs}"
    if best >= 1:
        text += f", and epoch {best} was the best"
    return text + ("; the run was stopped before its last epoch." if results["stopped"] else ".")


def _precision(results: Mapping[str, Any], amp: Mapping[str, Any]) -> str:
    name, stages = (results["precision"].get(key) for key in ("name", "fp32_stages"))
    label = labeled(str(name), stages or ())
    trials = {
        (trial["precision"], tuple(trial.get("fp32_stages") or ())): trial
        for trial in amp.get("trials") or ()
    }
    base, used = trials.get(("fp32", ())), trials.get((name, tuple(stages or ())))
    if name != "fp32" and base and used and used["step_ms"] and base["saved_bytes"]:
        faster = base["step_ms"] / used["step_ms"]
        memory = used["saved_bytes"] / base["saved_bytes"]
        text = (
            f"It trained in {label}: a step is {faster:.2f}x as fast as in fp32, and its "
            f"activations take {memory:.0%} of the memory"
        )
    else:
        text = f"It trained in {label} ({results['precision']['reason']})"
    failures = len(results.get("failures") or ())
    return text + (f"; {counted(failures, 'failure')} of numbers came up." if failures else ".")


def _memory(results: Mapping[str, Any]) -> list[str]:
    """The most memory that the run held, beside what was expected; [] where it is not known."""
    memory = results.get("memory") or {}
    if not memory.get("peak"):
        return []
    peak, expected = (memory[name] / 2**30 for name in ("peak", "expected"))
    return [f"It held {peak:.2f} GiB of memory at most; {expected:.2f} GiB were expected."]
