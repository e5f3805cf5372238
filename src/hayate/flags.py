"""A1111's command-line flags: which of them say how to compute, and what the others are answered."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import MappingProxyType

from hayate.errors import UnknownName, UsageError, clip


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag of A1111, and what it means here."""

    doc: str
    takes: str = ""
    """What follows the flag: "" nothing, "one" a word, "some" a word and all further ones of `CPU_NAMES`."""
    acts: bool = True
    """Whether it changes how pictures are computed; of the others `doc` is said as a note."""
    is_place: bool = False
    """Whether it says where files are, and becomes settings before a command sees it."""


_SERVERS = "the server's; it has no effect on this command"
_INSTALLER = "launch.py's, which takes it out; it has no effect on this command"
_ABSENT = "for models that are not here"
_NO_DOWNLOAD = "nothing is downloaded in any case"
_NEVER = "it had no effect at A1111 either"
_TILES = "tiles are as square as a fixed budget allows"
_NAMES = "names are safe on every system in any case; the setting filename_pattern says what is in them"

FLAGS: Mapping[str, Flag] = MappingProxyType(
    {
        "--xformers": Flag("attention by xFormers, where it is installed and can serve"),
        "--opt-sdp-attention": Flag("attention by PyTorch's fused kernels; wins over --xformers"),
        "--opt-sdp-no-mem-attention": Flag("the same without the kernel whose bits differ from run to run"),
        "--opt-split-attention": Flag("attention in slices of queries"),
        "--opt-split-attention-v1": Flag("attention in slices of queries"),
        "--opt-split-attention-invokeai": Flag("attention in slices of queries"),
        "--opt-sub-quad-attention": Flag("attention in tiles of queries and keys, in little memory"),
        "--disable-opt-split-attention": Flag("attention by its formula, without any saving"),
        "--opt-channelslast": Flag("feature maps in channels-last order"),
        "--no-half": Flag("everything in fp32"),
        "--no-half-vae": Flag("the VAE in fp32"),
        "--precision": Flag("full, half or autocast: fp32, fp16, or what suits the device", takes="one"),
        "--medvram": Flag("one of the networks on the device at a time"),
        "--medvram-sdxl": Flag("the same, for SDXL only"),
        "--lowvram": Flag("blocks of the U-Net on the device only while they compute"),
        "--disable-nan-check": Flag("results are not looked at"),
        "--device-id": Flag("which CUDA device computes", takes="one"),
        "--use-cpu": Flag("all or sd: the CPU computes; other names are of models that are not here", takes="some"),
        # Attention, precision and memory
        "--upcast-sampling": Flag("latents and sampling are always in fp32", acts=False),
        "--always-batch-cond-uncond": Flag("prompt and negative prompt are always one batch", acts=False),
        "--force-enable-xformers": Flag("--xformers says itself whether it can serve", acts=False),
        "--xformers-flash-attention": Flag("xFormers chooses its kernel itself", acts=False),
        "--sub-quad-q-chunk-size": Flag(_TILES, takes="one", acts=False),
        "--sub-quad-kv-chunk-size": Flag(_TILES, takes="one", acts=False),
        "--sub-quad-chunk-threshold": Flag(_TILES, takes="one", acts=False),
        "--use-ipex": Flag("Intel GPUs are not supported", acts=False),
        "--lowram": Flag("files are mapped, not read into memory", acts=False),
        "--disable-model-loading-ram-optimization": Flag("files are mapped, not read into memory", acts=False),
        "--no-hashing": Flag("hashes are computed beside the work and remembered", acts=False),
        "--disable-safe-unpickle": Flag("pickles are never opened", acts=False),
        # Without effect there either
        "--unload-gfpgan": Flag(_NEVER, acts=False),
        "--max-batch-count": Flag(_NEVER, takes="one", acts=False),
        "--deepdanbooru": Flag(_NEVER, acts=False),
        "--gradio-queue": Flag(_NEVER, acts=False),
        "--show-negative-prompt": Flag(_NEVER, acts=False),
        "--gradio-img2img-tool": Flag(_NEVER, takes="one", acts=False),
        "--gradio-inpaint-tool": Flag(_NEVER, takes="one", acts=False),
        "--add-stop-route": Flag(_NEVER, acts=False),
        "--enable-console-prompts": Flag(_NEVER, acts=False),
        "--ngrok-region": Flag(_NEVER, takes="one", acts=False),
        # Paths
        "--data-dir": Flag(
            "A1111's folder: models, styles, outputs and config.json are used where they are",
            takes="one",
            acts=False,
            is_place=True,
        ),
        "--models-dir": Flag(
            "the folder of Stable-diffusion, VAE, Lora and ESRGAN; or of the checkpoints themselves",
            takes="one",
            acts=False,
            is_place=True,
        ),
        "--ckpt": Flag(
            "as --model, where pictures are made from a text; the page begins with it", takes="one", acts=False
        ),
        "--ckpt-dir": Flag("the folder of the checkpoints", takes="one", acts=False, is_place=True),
        "--vae-dir": Flag("the folder of the VAEs", takes="one", acts=False, is_place=True),
        "--vae-path": Flag("as --vae, in the same places", takes="one", acts=False),
        "--config": Flag("a checkpoint's tensors say what it is", takes="one", acts=False),
        "--embeddings-dir": Flag("the folder of the textual inversions", takes="one", acts=False, is_place=True),
        "--textual-inversion-templates-dir": Flag("nothing is trained here", takes="one", acts=False),
        "--hypernetwork-dir": Flag(_ABSENT, takes="one", acts=False),
        "--localizations-dir": Flag("the page speaks English and Japanese", takes="one", acts=False),
        "--styles-file": Flag("the file of the styles; of several the last", takes="one", acts=False, is_place=True),
        "--gfpgan-dir": Flag(_ABSENT, takes="one", acts=False),
        "--gfpgan-model": Flag(_ABSENT, takes="one", acts=False),
        "--codeformer-models-path": Flag(_ABSENT, takes="one", acts=False),
        "--gfpgan-models-path": Flag(_ABSENT, takes="one", acts=False),
        "--esrgan-models-path": Flag("the folder of the upscalers", takes="one", acts=False, is_place=True),
        "--bsrgan-models-path": Flag(_ABSENT, takes="one", acts=False),
        "--realesrgan-models-path": Flag(_ABSENT, takes="one", acts=False),
        "--dat-models-path": Flag(_ABSENT, takes="one", acts=False),
        "--clip-models-path": Flag(_ABSENT, takes="one", acts=False),
        "--ldsr-models-path": Flag(_ABSENT, takes="one", acts=False),
        "--scunet-models-path": Flag(_ABSENT, takes="one", acts=False),
        "--swinir-models-path": Flag(_ABSENT, takes="one", acts=False),
        "--lora-dir": Flag("the folder of the LoRAs", takes="one", acts=False, is_place=True),
        "--lyco-dir-backcompat": Flag(
            "the same, where --lora-dir is not given", takes="one", acts=False, is_place=True
        ),
        "--ui-config-file": Flag("the browser remembers what was typed", takes="one", acts=False),
        "--ui-settings-file": Flag("HAYATE_CONFIG names the settings file", takes="one", acts=False),
        # Server and security
        "--listen": Flag(_SERVERS, acts=False),
        "--port": Flag(_SERVERS, takes="one", acts=False),
        "--server-name": Flag(_SERVERS, takes="one", acts=False),
        "--share": Flag("nothing is shown through other people's servers; see --listen", acts=False),
        "--ngrok": Flag("nothing is shown through other people's servers; see --listen", takes="one", acts=False),
        "--ngrok-options": Flag(
            "nothing is shown through other people's servers; see --listen", takes="one", acts=False
        ),
        "--gradio-auth": Flag(_SERVERS, takes="one", acts=False),
        "--gradio-auth-path": Flag(_SERVERS, takes="one", acts=False),
        "--gradio-allowed-path": Flag("only the pictures of jobs are shown", takes="one", acts=False),
        "--gradio-debug": Flag("there is no Gradio", acts=False),
        "--no-gradio-queue": Flag("jobs are always queued", acts=False),
        "--api": Flag(_SERVERS, acts=False),
        "--nowebui": Flag(_SERVERS, acts=False),
        "--api-auth": Flag(_SERVERS, takes="one", acts=False),
        "--api-log": Flag(_SERVERS, acts=False),
        "--api-server-stop": Flag(_SERVERS, acts=False),
        "--cors-allow-origins": Flag(_SERVERS, takes="one", acts=False),
        "--cors-allow-origins-regex": Flag("write the origins out, with --cors-allow-origins", takes="one", acts=False),
        "--tls-keyfile": Flag(_SERVERS, takes="one", acts=False),
        "--tls-certfile": Flag(_SERVERS, takes="one", acts=False),
        "--disable-tls-verify": Flag("certificates are not checked in any case", acts=False),
        "--subpath": Flag(_SERVERS, takes="one", acts=False),
        "--timeout-keep-alive": Flag(_SERVERS, takes="one", acts=False),
        "--freeze-settings": Flag("settings are not frozen: whoever may call may change them", acts=False),
        "--freeze-settings-in-sections": Flag(
            "settings are not frozen: whoever may call may change them", takes="one", acts=False
        ),
        "--freeze-specific-settings": Flag(
            "settings are not frozen: whoever may call may change them", takes="one", acts=False
        ),
        "--enable-insecure-extension-access": Flag(
            "extensions are installed with pip, never through the page", acts=False
        ),
        "--test-server": Flag("the server is as it is in tests", acts=False),
        "--skip-load-model-at-start": Flag("a model is loaded when it is needed", acts=False),
        "--allow-code": Flag("no code is run from outside", acts=False),
        "--administrator": Flag("nobody's rights are looked at", acts=False),
        # Launcher
        "--skip-install": Flag(_INSTALLER, acts=False),
        "--skip-prepare-environment": Flag(_INSTALLER, acts=False),
        "--reinstall-torch": Flag(_INSTALLER, acts=False),
        "--reinstall-xformers": Flag(_INSTALLER, acts=False),
        "--skip-python-version-check": Flag(_INSTALLER, acts=False),
        "--skip-version-check": Flag("no versions are looked at when Hayate starts", acts=False),
        "--exit": Flag(_INSTALLER, acts=False),
        "--skip-torch-cuda-test": Flag("a machine without a CUDA card computes on its CPU", acts=False),
        "--update-check": Flag(_NO_DOWNLOAD, acts=False),
        "--update-all-extensions": Flag(_NO_DOWNLOAD, acts=False),
        "--do-not-download-clip": Flag(_NO_DOWNLOAD, acts=False),
        "--no-download-sd-model": Flag(_NO_DOWNLOAD, acts=False),
        "--log-startup": Flag("hayate generate --json says what took how long", acts=False),
        "--dump-sysinfo": Flag("hayate doctor --facts FILE writes down what is known of the machine", acts=False),
        "--loglevel": Flag("only what matters is said", takes="one", acts=False),
        "-f": Flag("nobody's rights are looked at", acts=False),
        # Page
        "--autolaunch": Flag(_SERVERS, acts=False),
        "--theme": Flag(_SERVERS, takes="one", acts=False),
        "--use-textbox-seed": Flag("the seed is a number field", acts=False),
        "--no-progressbar-hiding": Flag("the progress is shown while there is some", acts=False),
        "--ui-debug-mode": Flag("the page is there before any model", acts=False),
        "--hide-ui-dir-config": Flag("folders can't be changed through the page in any case", acts=False),
        "--disable-console-progressbars": Flag("no bar is drawn where nobody watches", acts=False),
        "--no-prompt-history": Flag("no prompts are kept", acts=False),
        "--disable-all-extensions": Flag("no extension acts, the built-in ones included"),
        "--disable-extra-extensions": Flag("no extension acts but the built-in ones"),
        "--unix-filenames-sanitization": Flag(_NAMES, acts=False),
        "--filenames-max-length": Flag(_NAMES, takes="one", acts=False),
    }
)
"""Every flag of A1111 v1.10.1, with those of its built-in extensions."""

HERE_ON_CPU = ("all", "sd")
ELSEWHERE = ("interrogate", "gfpgan", "esrgan", "codeformer", "bsrgan", "realesrgan", "dat", "scunet", "swinir", "ldsr")
CPU_NAMES = (*HERE_ON_CPU, *ELSEWHERE)
"""What --use-cpu may name; those `ELSEWHERE` are models that are not here."""


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
        idle = (name for name in self.values if not FLAGS[name].acts and not FLAGS[name].is_place)
        notes = [f"{name}: {FLAGS[name].doc}" for name in idle]
        others = [name for name in self.cpu_names if name not in HERE_ON_CPU]
        return (*notes, *(f"--use-cpu {name}: there is no such model here" for name in others))

    @property
    def acting(self) -> Mapping[str, tuple[str, ...]]:
        """Those that change how pictures are computed."""
        return {name: words for name, words in self.values.items() if FLAGS[name].acts}

    @property
    def cpu_names(self) -> tuple[str, ...]:
        """What --use-cpu names."""
        return tuple(name.casefold() for name in self.values.get("--use-cpu", ()))

    @property
    def is_on_cpu(self) -> bool:
        """Whether --use-cpu names what is computed here."""
        return any(name in HERE_ON_CPU for name in self.cpu_names)


given: ContextVar[TakenFlags] = ContextVar("given", default=TakenFlags())  # noqa: B039 - frozen
"""The flags of the command that runs, for whoever resolves its plan."""


def take_flags(words: Sequence[str], kept_flags: Collection[str] = ()) -> tuple[TakenFlags, list[str]]:
    """A1111's flags among `words` but `kept_flags`, and the words that are left; what follows a "--" is text.

    Raises: UsageError for a flag that lacks its word.
    """
    end = words.index("--") if "--" in words else len(words)
    taken: dict[str, tuple[str, ...]] = {}
    kept: list[str] = []
    place = 0
    while place < end:
        name, has_value, value = words[place].partition("=")
        place += 1
        if name not in FLAGS or name in kept_flags or (has_value and not FLAGS[name].takes):
            kept.append(words[place - 1])
            continue
        following = [value] if has_value else _following(words[place:end], FLAGS[name].takes)
        if FLAGS[name].takes and not following:
            raise UsageError(f"{name} needs a value", hint=FLAGS[name].doc)
        if name == "--use-cpu":
            following = _checked_cpu_names(following)
        taken[name] = tuple(following)
        place += 0 if has_value else len(following)
    return TakenFlags(values=taken), [*kept, *words[end:]]


def device_from(flags: TakenFlags, asked: str | None) -> str | None:
    """The device that the flags name, where none was asked for otherwise.

    Raises: UsageError where they contradict each other.
    """
    number = flags.value("--device-id")
    if number is not None and not (number.isascii() and number.isdigit() and len(number) < 4):
        raise UsageError(f"--device-id {clip(number, 30)!r} is not a number", hint="write --device-id 0")
    named = "cpu" if flags.is_on_cpu else f"cuda:{number}" if number is not None else None
    if asked and named and asked != named:
        flag = "--use-cpu" if named == "cpu" else "--device-id"
        raise UsageError(f"--device {clip(asked, 30)} and {flag} contradict each other", hint="give one of them")
    return asked or named


def flags_page() -> str:
    """The part of docs/cli.md about A1111's flags."""
    acting, places, others = (
        "\n".join(f"| `{name}` | {flag.doc} |" for name, flag in FLAGS.items() if (flag.acts, flag.is_place) == kind)
        for kind in ((True, False), (False, True), (False, False))
    )
    return f"""## A1111's flags

Every command takes them, on the command line and from `COMMANDLINE_ARGS`. Two that contradict each other are an error.

| Flag | What it means |
|---|---|
{acting}

Those that say where files are become settings, which win over the environment and the settings file:

| Flag | What it names |
|---|---|
{places}

Those without effect are accepted with a note:

| Flag | Why it does not act |
|---|---|
{others}
"""


def _following(words: Sequence[str], takes: str) -> list[str]:
    """The words that belong to a flag; after the first one only names, for the next word may be a prompt."""
    if not takes or not words or words[0].startswith("--"):
        return []
    more = 1
    while takes == "some" and more < len(words) and words[more].casefold() in CPU_NAMES:
        more += 1
    return list(words[:more])


def _checked_cpu_names(words: Sequence[str]) -> list[str]:
    for name in words:
        if name.casefold() not in CPU_NAMES:
            raise UnknownName("name for --use-cpu", name, CPU_NAMES)
    return list(words)
