"""A1111's command-line flags: which of them say how to compute, and what the others are answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import MappingProxyType

from hayate.errors import UsageError


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag of A1111, and what it means here."""

    doc: str
    takes: str = ""
    """What follows the flag: "" nothing, "one" a word, "some" all words up to the next flag."""
    acts: bool = True
    """Whether it changes how pictures are computed; of the others `doc` is said as a note."""


_SERVERS = "the server's; it has no effect on this command"
_NOT_NEEDED = "not needed here"

FLAGS: Mapping[str, Flag] = MappingProxyType(
    {
        "--xformers": Flag("attention by xformers"),
        "--opt-sdp-attention": Flag("attention by PyTorch's fused kernels"),
        "--opt-sdp-no-mem-attention": Flag("the same without the kernel whose bits differ from run to run"),
        "--opt-split-attention": Flag("attention in slices of queries"),
        "--opt-split-attention-v1": Flag("attention in slices of queries"),
        "--opt-split-attention-invokeai": Flag("attention in slices of queries"),
        "--opt-sub-quad-attention": Flag("attention in chunks of queries and keys, in little memory"),
        "--disable-opt-split-attention": Flag("attention by its formula, without any saving"),
        "--opt-channelslast": Flag("feature maps in channels-last order"),
        "--no-half": Flag("everything in fp32"),
        "--no-half-vae": Flag("the VAE in fp32"),
        "--precision": Flag("full, half or autocast: fp32, fp16, or what suits the device", takes="one"),
        "--upcast-sampling": Flag("sampling in fp32 is how it always is here", acts=False),
        "--medvram": Flag("one of the networks on the device at a time"),
        "--medvram-sdxl": Flag("the same, for SDXL only"),
        "--lowvram": Flag("blocks of the U-Net on the device only while they compute"),
        "--disable-nan-check": Flag("results are not looked at"),
        "--device-id": Flag("which CUDA device computes", takes="one"),
        "--use-cpu": Flag("what computes on the CPU; here it is everything", takes="some"),
        "--always-batch-cond-uncond": Flag("prompt and negative prompt are always one batch here", acts=False),
        "--force-enable-xformers": Flag("use --xformers; it is refused with a reason where it can't serve", acts=False),
        "--xformers-flash-attention": Flag("xformers chooses its kernel itself", acts=False),
        "--opt-sub-quad-q-chunk-size": Flag("chunks are sized by memory", takes="one", acts=False),
        "--opt-sub-quad-kv-chunk-size": Flag("chunks are sized by memory", takes="one", acts=False),
        "--opt-sub-quad-chunk-threshold": Flag("chunks are sized by memory", takes="one", acts=False),
        "--lowram": Flag("files are mapped, not read into memory", acts=False),
        "--no-hashing": Flag("hashes are computed beside the work and remembered", acts=False),
        "--ckpt-dir": Flag("set models_dir instead", takes="one", acts=False),
        "--vae-dir": Flag("set vae_dir instead", takes="one", acts=False),
        "--styles-file": Flag("set styles_file instead", takes="one", acts=False),
        "--lora-dir": Flag("LoRAs are not applied yet", takes="one", acts=False),
        "--embeddings-dir": Flag("embeddings are not applied yet", takes="one", acts=False),
        "--data-dir": Flag("set models_dir and outputs_dir instead", takes="one", acts=False),
        "--update-check": Flag(_NOT_NEEDED, acts=False),
        "--skip-torch-cuda-test": Flag(_NOT_NEEDED, acts=False),
        "--skip-python-version-check": Flag(_NOT_NEEDED, acts=False),
        "--skip-version-check": Flag(_NOT_NEEDED, acts=False),
        "--skip-prepare-environment": Flag(_NOT_NEEDED, acts=False),
        "--skip-install": Flag(_NOT_NEEDED, acts=False),
        "--reinstall-torch": Flag("delete the .venv folder instead", acts=False),
        "--reinstall-xformers": Flag("delete the .venv folder instead", acts=False),
        "--no-download-sd-model": Flag("nothing is downloaded", acts=False),
        "--do-not-download-clip": Flag("nothing is downloaded", acts=False),
        "--disable-safe-unpickle": Flag("pickles are never opened", acts=False),
        "--disable-model-loading-ram-optimization": Flag(_NOT_NEEDED, acts=False),
        "--api": Flag(_SERVERS, acts=False),
        "--nowebui": Flag(_SERVERS, acts=False),
        "--listen": Flag(_SERVERS, acts=False),
        "--port": Flag(_SERVERS, takes="one", acts=False),
        "--share": Flag(_SERVERS, acts=False),
        "--autolaunch": Flag(_SERVERS, acts=False),
        "--theme": Flag(_SERVERS, takes="one", acts=False),
        "--gradio-queue": Flag(_SERVERS, acts=False),
        "--no-gradio-queue": Flag(_SERVERS, acts=False),
        "--gradio-auth": Flag(_SERVERS, takes="one", acts=False),
        "--api-auth": Flag(_SERVERS, takes="one", acts=False),
        "--api-log": Flag(_SERVERS, acts=False),
        "--cors-allow-origins": Flag(_SERVERS, takes="one", acts=False),
        "--enable-insecure-extension-access": Flag(_SERVERS, acts=False),
        "--hide-ui-dir-config": Flag(_SERVERS, acts=False),
        "--disable-all-extensions": Flag("there are none", acts=False),
        "--disable-extra-extensions": Flag("there are none", acts=False),
        "--enable-console-prompts": Flag(_SERVERS, acts=False),
        "--loglevel": Flag(_SERVERS, takes="one", acts=False),
    }
)
"""Every flag of A1111 that is understood."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenFlags:
    """The flags that were given, with the words that followed them."""

    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def value(self, name: str) -> str | None:
        """The word after a flag, or None where the flag was not given."""
        return self.values[name][0] if name in self.values else None

    @property
    def notes(self) -> tuple[str, ...]:
        """One line for each flag that has no effect."""
        return tuple(f"{name}: {FLAGS[name].doc}" for name in self.values if not FLAGS[name].acts)


given: ContextVar[TakenFlags] = ContextVar("given", default=TakenFlags())  # noqa: B039 - frozen
"""The flags of the command that runs, for whoever resolves its plan."""


def take_flags(words: Sequence[str]) -> tuple[TakenFlags, list[str]]:
    """A1111's flags among `words`, and the words that are left; what follows a "--" is text.

    Raises: UsageError for a flag that lacks its word.
    """
    end = words.index("--") if "--" in words else len(words)
    taken: dict[str, tuple[str, ...]] = {}
    kept: list[str] = []
    place = 0
    while place < end:
        name, has_value, value = words[place].partition("=")
        place += 1
        if name not in FLAGS or (has_value and not FLAGS[name].takes):
            kept.append(words[place - 1])
            continue
        following = [value] if has_value else _following(words[place:end], FLAGS[name].takes)
        if FLAGS[name].takes and not following:
            raise UsageError(f"{name} needs a value", hint=FLAGS[name].doc)
        taken[name] = tuple(following)
        place += 0 if has_value else len(following)
    return TakenFlags(values=taken), [*kept, *words[end:]]


def device_from(flags: TakenFlags, asked: str | None) -> str | None:
    """The device that the flags name, where none was asked for otherwise.

    Raises: UsageError where they contradict each other.
    """
    named = "cpu" if "--use-cpu" in flags else None
    if number := flags.value("--device-id"):
        if not number.isdigit():
            raise UsageError(f"--device-id {number!r} is not a number", hint="write --device-id 0")
        named = f"cuda:{number}"
    if asked and named and asked != named:
        raise UsageError(
            f"--device {asked} and {'--use-cpu' if named == 'cpu' else '--device-id'} contradict", hint="give one"
        )
    return asked or named


def _following(words: Sequence[str], takes: str) -> list[str]:
    until = next((index for index, word in enumerate(words) if word.startswith("--")), len(words))
    return list(words[: {"": 0, "one": min(1, until)}.get(takes, until)])
