"""Number of threads that compute, and how they wait for each other.

OpenMP's threads spin at a barrier before they sleep, and a training step has thousands of barriers.
If another program needs the same cores, each of them waits for threads that only spin: two
trainings at once took three times as long as with ``GOMP_SPINCOUNT=1000``, which costs nothing on
an idle machine.  The runtime reads these variables when torch is loaded, so they are set before
that.
"""

from __future__ import annotations

import os

SHORT_SPIN = {
    "GOMP_SPINCOUNT": "1000",  # libgomp, which torch has on Linux: rounds of its waiting loop
    "KMP_BLOCKTIME": "1",  # OpenMP of Intel and LLVM: milliseconds
}


def shorten_spinning() -> None:
    """Let OpenMP's threads sleep soon, in this process and in those that it starts.

    What the user has set stays, and OMP_WAIT_POLICY decides alone.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        for name, value in SHORT_SPIN.items():
            os.environ.setdefault(name, value)


def thread_limit() -> int | None:
    """The number in OMP_NUM_THREADS; None if the user has set none.

    torchrun sets 1 for every rank if nothing is set: that is not the user's word.
    """
    text = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    by_torchrun = text == "1" and "TORCHELASTIC_RUN_ID" in os.environ
    return int(text) if text.isdigit() and int(text) > 0 and not by_torchrun else None
