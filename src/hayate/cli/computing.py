"""The options that say how to compute; every command that computes has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from hayate.flags import given

if TYPE_CHECKING:
    from hayate.runtime.asked import Asked

Attention = Annotated[str | None, typer.Option(help="The attention backend; `hayate plan` shows which serve.")]
Layers = Annotated[str | None, typer.Option(help="plain, fused or packed; by default what wins on this machine.")]
Layout = Annotated[str | None, typer.Option(help="contiguous or channels-last.")]
CompileMode = Annotated[
    str | None, typer.Option("--compile", help="off, default, reduce-overhead or max-autotune; beside the work.")
]
CompileParts = Annotated[list[str] | None, typer.Option(help="unet, vae or text; may be repeated.")]
Graphs = Annotated[bool | None, typer.Option("--graphs/--no-graphs", help="Replay steps as CUDA graphs.")]
Offload = Annotated[str | None, typer.Option(help="none, medvram or lowvram; by default by free memory.")]
InputsAtOnce = Annotated[int | None, typer.Option(help="Inputs that the U-Net takes in one call; by default all.")]
VaeTile = Annotated[int | None, typer.Option(help="Decode in tiles of so many pixels; approximate.")]
UsesProfile = Annotated[
    bool, typer.Option("--profile/--no-profile", help="Follow what hayate tune has found, where nothing else is asked.")
]
Promise = Annotated[str | None, typer.Option(help="exact, deterministic or fast.")]


@dataclass(frozen=True, slots=True)
class Own:
    """Hayate's own options of a command."""

    attention: str | None = None
    layers: str | None = None
    layout: str | None = None
    compile_mode: str | None = None
    compile_parts: list[str] | None = None
    graphs: bool | None = None
    offload: str | None = None
    inputs_at_once: int | None = None
    vae_tile: int | None = None
    promise: str | None = None
    uses_profile: bool = True

    def asked(self, dtype: str | None = None) -> Asked:
        """These options over A1111's flags of the same command.

        Raises: UsageError.
        """
        from hayate.runtime.asked import Asked, asked_from

        own = Asked(
            dtype=dtype,
            attention=self.attention,
            layers=self.layers,
            layout=self.layout,
            compile=self.compile_mode,
            compile_parts=tuple(self.compile_parts or ()),
            is_graphed=self.graphs,
            offload=self.offload,
            inputs_at_once=self.inputs_at_once,
            vae_tile_px=self.vae_tile,
            promise=self.promise,
            ignores_profile=not self.uses_profile,
        )
        return asked_from(given.get(), own)
