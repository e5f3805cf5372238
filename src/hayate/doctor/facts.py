"""What the doctor knows of a machine. Facts and advice are apart: a check reads these and nothing else.

None stands for what could not be found out; no check may take it for an answer. Nothing here names a person: paths
below the home folder begin with `~`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Le

SHEET_VERSION = 1

Amount = Annotated[int, Ge(0), Le(2**60)]
Count = Annotated[int, Gt(0), Le(2**60)]
Rate = Annotated[float, Ge(1e-3), Le(1e15)]
DiskKind = Literal["nvme", "ssd", "hdd", "network", "memory", "virtual"]
FolderRole = Literal["models", "outputs", "cache", "data"]
FileForm = Literal["safetensors", "pickle", "broken", "link"]


class Sheet:
    """A part of a sheet: what a sheet says beside its fields is an error, not left out silently."""

    __slots__ = ()
    __pydantic_config__: ClassVar = {"extra": "forbid"}


@dataclass(frozen=True, slots=True, kw_only=True)
class System(Sheet):
    """The operating system."""

    os: Literal["Linux", "Windows", "macOS"]
    release: str
    machine: str
    """The processor's architecture, such as `x86_64` or `arm64`."""
    is_wsl: bool = False
    is_container: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows(Sheet):
    """What the registry and the power settings say, on Windows and from inside WSL2."""

    hags: bool | None = None
    """Hardware-accelerated GPU scheduling."""
    sysmem_fallback: Literal["on", "off"] | None = None
    """The driver's CUDA Sysmem Fallback Policy, where it was found out."""
    power_mode: Literal["efficiency", "balanced", "performance"] | None = None
    is_on_battery: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Package(Sheet):
    """One installed distribution."""

    name: str
    """In the normal form of package names: lower case, single hyphens."""
    version: str
    requires: tuple[str, ...] = ()
    """What it asks for, as its metadata has it; requirements of extras have their marker."""
    is_plugin: bool = False
    """Whether it extends Hayate by an entry point."""
    size_bytes: Amount | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Python(Sheet):
    """The interpreter and what is installed for it."""

    version: str
    executable: str
    is_own: bool = False
    """Whether the environment is one that launch.py made."""
    launcher: str | None = None
    """Where that launch.py is."""
    packages: tuple[Package, ...] = ()
    pins: Mapping[str, str] = field(default_factory=dict)
    """Of constraints.txt, those that are for this system."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Torch(Sheet):
    """The PyTorch that would be imported, read without importing it."""

    version: str
    cuda: str | None = None
    """The version of CUDA that it was built for; None for other builds."""
    hip: str | None = None
    architectures: tuple[str, ...] | None = None
    """What its kernels were compiled for, such as `sm_86` or `compute_90`."""
    cudnn: str | None = None
    copies: tuple[str, ...] = ()
    """Every place on the import path where there is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder(Sheet):
    """A process that has memory of a card."""

    name: str
    used_bytes: Amount | None
    """None where the driver does not say, as on Windows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cliff(Sheet):
    """How copies on a card of growing total size went: at a cliff, memory is the computer's and not the card's."""

    held_bytes: Amount | None = None
    """The most that was held before it; None where there is no cliff."""
    times_slower: Rate = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Card(Sheet):
    """A graphics card."""

    name: str
    vendor: Literal["nvidia", "amd", "intel", "apple"] = "nvidia"
    capability: tuple[int, int] | None = None
    memory_bytes: Amount | None = None
    used_bytes: Amount | None = None
    driver: str | None = None
    driver_cuda: str | None = None
    """The newest CUDA that the driver serves."""
    state: str | None = None
    """NVIDIA's performance state: P0 at work, P8 idle."""
    power_limit_w: Rate | None = None
    power_default_w: Rate | None = None
    power_max_w: Rate | None = None
    clock_mhz: Amount | None = None
    clock_max_mhz: Count | None = None
    slowdowns: tuple[str, ...] = ()
    """Why the clock is held down now, such as `thermal`, other than by idling or by the power limit."""
    pcie_generation: Count | None = None
    pcie_generation_max: Count | None = None
    pcie_lanes: Count | None = None
    pcie_lanes_max: Count | None = None
    has_display: bool | None = None
    holders: tuple[Holder, ...] = ()
    cliff: Cliff | None = None
    """What `hayate doctor --measure` found; None where it did not measure."""

    def is_from(self, capability: tuple[int, int]) -> bool:
        """Whether its compute capability is known to be this or a newer one."""
        return self.capability is not None and self.capability >= capability


@dataclass(frozen=True, slots=True, kw_only=True)
class Processor(Sheet):
    """The CPU, as far as this process may use it."""

    model: str
    cores: Count | None = None
    """Physical ones."""
    threads: Amount | None = None
    """Logical processors."""
    usable_threads: Count | None = None
    """Of these, those that this process may run on."""
    quota_threads: Rate | None = None
    """What a container's limit of CPU time comes to."""
    features: tuple[str, ...] = ()
    """Instruction sets, as Linux calls them."""
    governor: str | None = None
    """How Linux sets the clock."""
    numa_nodes: Count | None = None
    threads_asked: Count | None = None
    """OMP_NUM_THREADS, where it is set."""
    pinning: Mapping[str, str] = field(default_factory=dict)
    """Those of OMP_PROC_BIND, KMP_AFFINITY and GOMP_CPU_AFFINITY that are set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocator(Sheet):
    """Whose malloc serves."""

    name: str
    """`glibc`, `musl`, `tcmalloc`, `jemalloc`, or the system's name."""
    huge_pages: Literal["always", "madvise", "never"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Toolchain(Sheet):
    """What compiles."""

    compiler: str | None = None
    """A C++ compiler's place."""
    triton: str | None = None
    """Its version."""
    has_python_headers: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory(Sheet):
    """Main memory, as far as this process may use it."""

    total_bytes: Amount
    available_bytes: Amount
    cached_bytes: Amount | None = None
    """Files that the system keeps in memory because they were read."""
    limit_bytes: Count | None = None
    """A container's limit."""
    swap_bytes: Amount = 0
    swap_used_bytes: Amount = 0

    @property
    def usable_bytes(self) -> int:
        return min(self.total_bytes, self.limit_bytes or self.total_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder(Sheet):
    """A folder of the settings, and the disk below it."""

    role: FolderRole
    path: str
    is_there: bool
    is_writable: bool | None = None
    filesystem: str | None = None
    disk: DiskKind | None = None
    is_windows_mount: bool = False
    """Whether it is Windows' own disk, seen from inside WSL2."""
    free_bytes: Amount | None = None
    read_bytes_per_s: Rate | None = None
    """Measured over a few MB; see `was_cached`."""
    was_cached: bool | None = None
    """Whether what was read came from memory, so that it tells nothing of the disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile(Sheet):
    """A file in one of the folders of models."""

    path: str
    kind: Literal["checkpoint", "vae", "lora", "embedding"]
    form: FileForm
    size_bytes: Amount
    family: str | None = None
    """`sd1`, `sd2`, `sdxl` or `sdxl-refiner`."""
    dtype_bytes: Mapping[str, Amount] = field(default_factory=dict)
    """Of a checkpoint, what each stored type takes."""
    ema_bytes: Amount = 0
    """The averages that training keeps and nothing here uses."""
    safe_types: Mapping[str, str] = field(default_factory=dict)
    """What a part must compute in: by the file's own header, by its hash, or as learnt from a NaN."""
    tensors_mark: str | None = None
    """A hash of the layout and of samples of all its tensors."""
    pickle_verdict: str | None = None
    """What `hayate models scan` says of it."""
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TunedProfile(Sheet):
    """A profile that `hayate tune` left."""

    path: str
    device: str
    title: str
    at: str
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Extension(Sheet):
    """An extension, and what it costs at every start."""

    name: str
    import_ms: Annotated[float, Ge(0), Le(1e9)] | None = None
    is_disabled: bool = False
    problem: str | None = None
    requires: tuple[str, ...] = ()
    """Packages, as pip reads them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Port(Sheet):
    """A port that the server would use."""

    number: Count
    is_free: bool
    holder: str | None = None
    """The name of the process that listens there."""
    is_hayate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes(Sheet):
    """What the user set that decides about speed."""

    flags: tuple[str, ...] = ()
    """A1111's flags, from COMMANDLINE_ARGS."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Settings that differ from their default, by key; no paths."""
    settings_problem: str | None = None
    """What is wrong with the settings file."""
    threads: Amount = 0
    hides_cards: bool = False
    """Whether CUDA_VISIBLE_DEVICES says which cards there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts(Sheet):
    """Everything that is known of a machine."""

    version: int = SHEET_VERSION
    system: System
    python: Python
    processor: Processor
    memory: Memory
    torch: Torch | None = None
    windows: Windows = Windows()
    cards: tuple[Card, ...] = ()
    allocator: Allocator = Allocator(name="?")
    toolchain: Toolchain = Toolchain()
    folders: tuple[Folder, ...] = ()
    models: tuple[ModelFile, ...] = ()
    profiles: tuple[TunedProfile, ...] = ()
    extensions: tuple[Extension, ...] = ()
    ports: tuple[Port, ...] = ()
    wishes: Wishes = Wishes()
    unknown: tuple[str, ...] = ()
    """What could not be found out, and why: a line for each."""

    def package(self, name: str) -> Package | None:
        """The installed package of that name."""
        return next((each for each in self.python.packages if each.name == name), None)

    def folder(self, role: FolderRole) -> Folder | None:
        """The folder with that role."""
        return next((each for each in self.folders if each.role == role), None)

    @property
    def nvidia(self) -> tuple[Card, ...]:
        return tuple(card for card in self.cards if card.vendor == "nvidia")
