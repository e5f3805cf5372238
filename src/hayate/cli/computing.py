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

_APPROXIMATE = "; approximate."


@dataclass(frozen=True, slots=True)
class Own:
    """Hayate's own options of a command; each field is an option."""

    attention: Annotated[str | None, typer.Option(help="The attention backend; `hayate plan` shows which serve.")] = (
        None
    )
    layers: Annotated[
        str | None, typer.Option(help="plain, fused or packed; by default what wins on this machine.")
    ] = None
    layout: Annotated[str | None, typer.Option(help="contiguous or channels-last.")] = None
    compile_mode: Annotated[
        str | None,
        typer.Option("--compile", help="off, default, reduce-overhead or max-autotune; beside the work."),
    ] = None
    compile_parts: Annotated[list[str] | None, typer.Option(help="unet, vae or text; may be repeated.")] = None
    graphs: Annotated[bool | None, typer.Option("--graphs/--no-graphs", help="Replay steps as CUDA graphs.")] = None
    offload: Annotated[str | None, typer.Option(help="none, medvram or lowvram; by default by free memory.")] = None
    inputs_at_once: Annotated[
        int | None, typer.Option(help="Inputs that the U-Net takes in one call; by default all.")
    ] = None
    vae_tile: Annotated[int | None, typer.Option(help="Decode in tiles of so many pixels" + _APPROXIMATE)] = None
    guidance_interval: Annotated[
        str | None, typer.Option(metavar="LOW,HIGH", help="Guide between these noise levels only" + _APPROXIMATE)
    ] = None
    s_min_uncond: Annotated[
        float | None,
        typer.Option(help="A1111's NGMS: below it every second step has no negative prompt" + _APPROXIMATE),
    ] = None
    deepcache: Annotated[
        int | None, typer.Option("--deepcache", metavar="N", help="One evaluation of N is whole" + _APPROXIMATE)
    ] = None
    tome: Annotated[float | None, typer.Option(help="The share of tokens to merge, 0 to 0.75" + _APPROXIMATE)] = None
    tiny_vae: Annotated[
        Path | None, typer.Option(help="A TAESD file that decodes instead of the VAE" + _APPROXIMATE)
    ] = None
    promise: Annotated[str | None, typer.Option(help="exact, deterministic or fast.")] = None
    uses_profile: Annotated[
        bool,
        typer.Option("--profile/--no-profile", help="Follow what hayate tune has found, where nothing else is asked."),
    ] = True

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
            guidance_interval=parse_interval(self.guidance_interval),
            s_min_uncond=self.s_min_uncond,
            deepcache=self.deepcache,
            tome=self.tome,
            tiny_vae=None if self.tiny_vae is None else str(self.tiny_vae),
        )
        return asked_from(given.get(), own)


DEFAULTS = Own()


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
