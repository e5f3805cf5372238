"""The options that say how to compute; every command that computes has them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hayate.errors import UsageError, clip
from hayate.flags import given

if TYPE_CHECKING:
    from hayate.runtime.asked import Asked

Attention = Annotated[str | None, typer.Option(help="The attention backend; `hayate plan` shows which serve.")]
Layout = Annotated[str | None, typer.Option(help="contiguous or channels-last.")]
CompileMode = Annotated[
    str | None, typer.Option("--compile", help="off, default, reduce-overhead or max-autotune; beside the work.")
]
CompileParts = Annotated[list[str] | None, typer.Option(help="unet, vae or text; may be repeated.")]
Graphs = Annotated[bool | None, typer.Option("--graphs/--no-graphs", help="Replay steps as CUDA graphs.")]
Offload = Annotated[str | None, typer.Option(help="none, medvram or lowvram; by default by free memory.")]
VaeTile = Annotated[int | None, typer.Option(help="Decode in tiles of so many pixels; approximate.")]
Promise = Annotated[str | None, typer.Option(help="exact, deterministic or fast.")]
GuidanceInterval = Annotated[
    str | None, typer.Option(metavar="LOW,HIGH", help="Guide between these noise levels only; approximate.")
]
SMinUncond = Annotated[
    float | None, typer.Option(help="A1111's NGMS: below it every second step has no negative prompt; approximate.")
]
DeepCache = Annotated[
    int | None, typer.Option("--deepcache", metavar="N", help="One evaluation of N is whole; approximate.")
]
Tome = Annotated[float | None, typer.Option(help="The share of tokens to merge, 0 to 0.75; approximate.")]
TinyVae = Annotated[Path | None, typer.Option(help="A TAESD file that decodes instead of the VAE; approximate.")]


@dataclass(frozen=True, slots=True)
class Own:
    """Hayate's own options of a command."""

    attention: str | None = None
    layout: str | None = None
    compile_mode: str | None = None
    compile_parts: list[str] | None = None
    graphs: bool | None = None
    offload: str | None = None
    vae_tile: int | None = None
    promise: str | None = None
    guidance_interval: str | None = None
    s_min_uncond: float | None = None
    deepcache: int | None = None
    tome: float | None = None
    tiny_vae: Path | None = None

    def asked(self, dtype: str | None = None) -> Asked:
        """These options over A1111's flags of the same command.

        Raises: UsageError.
        """
        from hayate.runtime.asked import Asked, asked_from

        own = Asked(
            dtype=dtype,
            attention=self.attention,
            layout=self.layout,
            compile=self.compile_mode,
            compile_parts=tuple(self.compile_parts or ()),
            is_graphed=self.graphs,
            offload=self.offload,
            vae_tile_px=self.vae_tile,
            promise=self.promise,
            guidance_interval=parse_interval(self.guidance_interval),
            s_min_uncond=self.s_min_uncond,
            deepcache=self.deepcache,
            tome=self.tome,
            tiny_vae=None if self.tiny_vae is None else str(self.tiny_vae),
        )
        return asked_from(given.get(), own)


def parse_interval(text: str | None) -> tuple[float, float] | None:
    """The two numbers of "0.3,5".

    Raises: UsageError.
    """
    if text is None:
        return None
    low, _, high = text.partition(",")
    try:
        return float(low), float(high)
    except ValueError:
        hint = "two noise levels such as 0.3,5"
        raise UsageError(f"--guidance-interval {clip(text, 30)!r} is no interval", hint=hint) from None
