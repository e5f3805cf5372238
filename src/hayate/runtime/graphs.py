"""CUDA graphs over a whole U-Net step: hundreds of kernels started by one call."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from hayate.errors import clip
from hayate.runtime.evidence import Evidence

logger = logging.getLogger(__name__)

Step = Callable[[Tensor, Tensor, Sequence[Tensor]], Tensor]
"""`step(x, times, contexts)`, as `models.unet.UNet.step`."""
Shapes = tuple[tuple[torch.Size, torch.dtype], ...]

WARM_UPS = 2
"""Steps of a shape that are computed as usual first, since libraries choose and allocate in their first calls."""
MOST_SHAPES = 4


class Recording(Protocol):
    """Kernels that were recorded."""

    output: Tensor
    """Where every replay leaves its result."""

    def replay(self) -> None: ...


class Recorder(Protocol):
    """What records kernels: CUDA, or something else in tests."""

    def warm_up(self, work: Callable[[], Tensor]) -> Tensor:
        """Computes `work` where recordings will be made, and gives its result."""
        ...

    def record(self, work: Callable[[], Tensor]) -> Recording:
        """Records what `work` would compute, without computing it.

        Raises: RuntimeError when something in it can't be recorded.
        """
        ...


def refusal(device: torch.device, *, is_offloaded: bool = False) -> str | None:
    """Why graphs can't be used on `device`, or over weights that come and go; None where they can."""
    if device.type != "cuda":
        return f"CUDA graphs need a CUDA device, and this is {device.type}"
    return "offloaded weights are somewhere else each time, and a graph has their addresses" if is_offloaded else None


class GraphedStep:
    """A step that is recorded once for each shape and replayed from then on; called as the step that it was made of.

    The weights must stay where they are: a checkpoint that is poured into standing parameters is fine, and `clear` is
    for everything else. The first calls of a shape compute as usual and are its warm-up, so that none is spent.
    """

    def __init__(self, step: Step, recorder: Recorder, *, most_shapes: int = MOST_SHAPES) -> None:
        self.replays = 0
        self.recordings = 0
        self.eager_calls = 0
        """Calls that computed as usual: warm-ups, and shapes that can't be recorded."""
        self.failures: dict[Shapes, str] = {}
        """Why a shape could not be recorded; it computes as usual."""
        self._step = step
        self._recorder = recorder
        self._most_shapes = most_shapes
        self._shapes: OrderedDict[Shapes, _Shape] = OrderedDict()

    def __call__(self, x: Tensor, times: Tensor, contexts: Sequence[Tensor]) -> Tensor:
        """The step's result, in memory of its own.

        Cost: one launch for the recording, three for copying what is given and what is returned.
        """
        given = (x, times, *contexts)
        key = tuple((tensor.shape, tensor.dtype) for tensor in given)
        if key in self.failures:
            self.eager_calls += 1
            return self._step(x, times, contexts)
        shape = self._shape(key, given)
        shape.take(given)
        if shape.warm_ups < WARM_UPS:
            shape.warm_ups += 1
            self.eager_calls += 1
            return self._recorder.warm_up(lambda: shape.compute(self._step))
        if shape.recording is None:
            reason = self._record(shape)
            if reason:
                self._give_up(key, reason)
                return self(x, times, contexts)
        assert shape.recording is not None
        shape.recording.replay()
        self.replays += 1
        return shape.recording.output.clone()

    def clear(self) -> None:
        """Forgets all recordings and failures: the weights have moved, or their memory is needed."""
        self._shapes.clear()
        self.failures.clear()

    def evidence(self) -> Evidence:
        """What was recorded and replayed so far."""
        detail = f"{self.replays} replays of {self.recordings} recordings, {self.eager_calls} steps computed as usual"
        if self.failures:
            detail += f"; {len(self.failures)} shapes not recorded: {next(reversed(self.failures.values()))}"
        return Evidence(name="CUDA graphs", requested="on", active=self.replays > 0, detail=detail)

    def _shape(self, key: Shapes, given: Sequence[Tensor]) -> _Shape:
        """What is kept of a shape; the one that was not used for longest makes room."""
        if key not in self._shapes:
            while len(self._shapes) >= self._most_shapes:
                self._shapes.popitem(last=False)
            with torch.inference_mode(mode=False):  # else they could be written to in that mode only
                self._shapes[key] = _Shape(inputs=[torch.empty_like(tensor) for tensor in given])
        self._shapes.move_to_end(key)
        return self._shapes[key]

    def _record(self, shape: _Shape) -> str | None:
        """Records a shape; why it could not be, if so.

        The caller goes on after this function has returned, when the error's traceback holds no tensors any more.
        """
        try:
            shape.recording = self._recorder.record(lambda: shape.compute(self._step))
        except RuntimeError as error:
            return clip(str(error).split("\n", 1)[0] or type(error).__name__, 160)
        self.recordings += 1
        return None

    def _give_up(self, key: Shapes, reason: str) -> None:
        logger.warning("a step can't be recorded as a CUDA graph and computes as usual: %s", reason)
        self.failures[key] = reason
        del self._shapes[key]


@dataclass(slots=True, kw_only=True, eq=False)
class _Shape:
    """Inputs at fixed addresses, and what was recorded of a step that reads them."""

    inputs: list[Tensor]
    recording: Recording | None = None
    warm_ups: int = 0

    def take(self, given: Sequence[Tensor]) -> None:
        self.inputs[0].copy_(given[0])
        self.inputs[1].copy_(given[1])
        torch._foreach_copy_(self.inputs[2:], list(given[2:]))  # pyright: ignore[reportPrivateImportUsage]

    def compute(self, step: Step) -> Tensor:
        x, times, *contexts = self.inputs
        return step(x, times, contexts)


class CudaRecorder:
    """Records on a stream of its own, into memory that all its recordings share, for only one is replayed at a time."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    def warm_up(self, work: Callable[[], Tensor]) -> Tensor:
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            output = work()
        current.wait_stream(self._stream)
        output.record_stream(current)
        return output

    def record(self, work: Callable[[], Tensor]) -> Recording:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            output = work()
        return _CudaRecording(graph=graph, output=output)


@dataclass(slots=True, kw_only=True, eq=False)
class _CudaRecording:
    graph: torch.cuda.CUDAGraph
    output: Tensor

    def replay(self) -> None:
        self.graph.replay()
