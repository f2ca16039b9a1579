"""The forward pass of a run with several ranks: torch's DistributedDataParallel.

DDP sums gradients while the backward pass still computes.  torch would average them; here the loss
of a rank is its share of the whole already (losses/detection.py), so they are summed.  Only the
forward pass goes through DDP: the average, the guard and checkpoints use the bare model, which has
the same parameters.
"""

import copy
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..run.ranks import Ranks


def forward_of(
    model: nn.Module, ranks: Ranks, *, compiled: bool = False, sync_bn: bool = False
) -> Callable[[Tensor], Any]:
    """What a training step calls in place of ``model``, which is in training mode already.

    sync_bn: batch norm over the images of all ranks (CUDA only).
    """
    module = _with_sync_bn(model) if sync_bn and ranks.size > 1 else model
    if compiled:
        module = torch.compile(module)  # type: ignore[assignment]
    if ranks.size == 1:
        return module
    with warnings.catch_warnings():
        # torch 2.14 has forward_sync_buffers for it, torch 2.10 has not
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        parallel = DistributedDataParallel(
            module, broadcast_buffers=False, gradient_as_bucket_view=True
        )
    parallel.register_comm_hook(None, _sum_gradients)
    return parallel


def _sum_gradients(_: None, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
    # torch reads these annotations, so this file has no "from __future__ import annotations"
    work = dist.all_reduce(bucket.buffer(), async_op=True)
    assert work is not None
    return work.get_future().then(lambda done: done.value()[0])


def _with_sync_bn(model: nn.Module) -> nn.Module:
    """A copy of the modules with SyncBatchNorm, around the same parameters and buffers."""
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(model, shared))
