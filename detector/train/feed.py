"""Batches onto the device.

A CUDA device gets them on a stream of its own: what is copied from page-locked memory, and what is
drawn on the device, does not queue up behind the step that is still computing.  The step waits for
its batch, and the batch's memory is not given away before the step is through with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch

from ...datasets.nouns import Batch


def on_device(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """The batches, with their tensors on ``device``; each is asked for when it is needed."""
    if device.type != "cuda":
        yield from (batch.to(device) for batch in batches)
        return
    beside, source = torch.cuda.Stream(device), iter(batches)
    beside.wait_stream(torch.cuda.current_stream(device))  # what drawing reads is there
    while True:
        with torch.cuda.stream(beside):
            batch = next(source, None)
            if batch is None:
                return
            batch = batch.to(device)
        computing = torch.cuda.current_stream(device)
        computing.wait_stream(beside)
        for tensor in (batch.images, batch.boxes, batch.labels, batch.batch_index):
            tensor.record_stream(computing)
        yield batch
