"""Every check there is; docs/doctor.md is written from this table."""

from __future__ import annotations

from hayate.doctor.checks import (
    cards,
    folders,
    installation,
    memory,
    models,
    pinning,
    processor,
    surroundings,
    torch_build,
    windows,
    wishes,
)
from hayate.doctor.finding import Check

CHECKS = (
    # Whether what is installed fits the card
    Check(
        name="card without kernels",
        looks_at="The card's compute capability against what torch's kernels were compiled for.",
        judge=torch_build.card_without_kernels,
    ),
    Check(
        name="CPU-only torch",
        looks_at="A torch without CUDA beside an NVIDIA card of capability 5.0 or newer.",
        judge=torch_build.cpu_torch,
    ),
    Check(
        name="old driver",
        looks_at="The driver against the oldest that torch's CUDA works with.",
        judge=torch_build.old_driver,
    ),
    Check(
        name="old cuDNN",
        looks_at="cuDNN against the first version with kernels for the card, and against what torch asks for.",
        judge=torch_build.old_cudnn,
    ),
    # What the card may do
    Check(name="power limit", looks_at="A power limit below 95 % of the card's default.", judge=cards.power_limit),
    Check(
        name="slowed clock",
        looks_at="A clock that heat or the power supply holds down at this moment.",
        judge=cards.slowed_clock,
    ),
    Check(
        name="narrow PCIe",
        looks_at="Four lanes or fewer, or a quarter or less of what the card has. Generations are not "
        "compared: an idle card lowers its own.",
        judge=cards.narrow_pcie,
    ),
    Check(
        name="held memory",
        looks_at="Other programs with more than 15 % of the card's memory.",
        judge=cards.held_memory,
    ),
    Check(
        name="idle cards",
        looks_at="Several NVIDIA cards, and no choice among them: `devices`, `device`, CUDA_VISIBLE_DEVICES.",
        judge=cards.idle_cards,
    ),
    # Windows
    Check(
        name="GPU scheduling",
        looks_at="Windows' registry: hardware-accelerated GPU scheduling switched on; also from inside WSL2.",
        judge=windows.scheduling,
    ),
    Check(
        name="system-memory fallback",
        looks_at="Windows or WSL2 with a driver from 536.40 on and a card of less than 20 GB. What happens while "
        "computing is found by `runtime/cliff.py`: bandwidth that breaks down with size.",
        judge=windows.sysmem_fallback,
    ),
    Check(name="power mode", looks_at="On battery, or a mode that saves energy; not Macs.", judge=windows.power_mode),
    # Processor
    Check(
        name="too many threads",
        looks_at="`threads` or OMP_NUM_THREADS above what this process may use.",
        judge=processor.too_many_threads,
    ),
    Check(
        name="idle processors",
        looks_at="Without a GPU: half or less of the cores used.",
        judge=processor.idle_processors,
    ),
    Check(
        name="pinned threads",
        looks_at="Without a GPU: OMP_PROC_BIND, GOMP_CPU_AFFINITY or KMP_AFFINITY with fewer processors than threads.",
        judge=pinning.pinned_threads,
    ),
    Check(
        name="NUMA nodes",
        looks_at="Linux without a GPU: several NUMA nodes, and nothing that binds the threads to one.",
        judge=pinning.several_nodes,
    ),
    Check(
        name="forced fp32 on a CPU",
        looks_at="`dtype = fp32` on a CPU with AVX512-BF16 or AMX.",
        judge=processor.forced_fp32,
    ),
    Check(
        name="allocator",
        looks_at="Linux without a GPU on musl. glibc is told to keep memory; tcmalloc and jemalloc do.",
        judge=processor.foreign_allocator,
    ),
    Check(
        name="clock governor",
        looks_at="Linux' governor `powersave`, other than Intel's own driver's.",
        judge=processor.saving_governor,
    ),
    Check(
        name="container quota",
        looks_at="A container's CPU time below three quarters of the processors that it sees.",
        judge=processor.small_quota,
    ),
    Check(
        name="compile toolchain",
        looks_at="A C++ compiler, and for cards from capability 7.0 on Triton and Python.h.",
        judge=processor.no_compiler,
    ),
    # Memory and disks
    Check(name="swapping", looks_at="More than 1 GB swapped out while memory is short.", judge=memory.swapping),
    Check(
        name="no swap",
        looks_at="No swap or page file, and memory for less than twice the largest checkpoint.",
        judge=memory.no_room_to_overflow,
    ),
    Check(name="RAM disk", looks_at="Models on a file system in memory.", judge=memory.ram_disk),
    Check(
        name="checkpoints in memory",
        looks_at="A disk of less than 400 MB/s, several checkpoints, and room in memory for them.",
        judge=memory.models_kept,
    ),
    Check(
        name="models on Windows' disk",
        looks_at="WSL2 with the models below /mnt/c or another drive of Windows.",
        judge=folders.windows_mount,
    ),
    Check(name="slow disk", looks_at="Models on a hard disk or the network.", judge=folders.slow_disk),
    Check(
        name="missing folder",
        looks_at="The models' folder is not there, or pictures can't be written.",
        judge=folders.missing_folder,
    ),
    Check(
        name="full disk",
        looks_at="Less than 2 GB below outputs_dir, cache_dir or data_dir.",
        judge=folders.full_disk,
    ),
    # Models
    Check(name="pickles", looks_at="Models that are pickles, with what `models scan` says.", judge=models.pickles),
    Check(name="broken files", looks_at="Files that are no models, or cut off.", judge=models.broken_files),
    Check(
        name="stored in fp32",
        looks_at="Checkpoints of which more than half is fp32.",
        judge=models.stored_in_fp32,
    ),
    Check(name="unpruned", looks_at="Averages of the training (EMA) above 100 MB.", judge=models.unpruned),
    Check(
        name="duplicates",
        looks_at="Files with the same header and the same samples of every tensor's bytes.",
        judge=models.duplicates,
    ),
    Check(
        name="NaN in fp16",
        looks_at="VAEs that need a wider type: by their header, as learnt from a NaN, or SDXL's own by its hash.",
        judge=models.nan_vae,
    ),
    # The environment
    Check(name="two torches", looks_at="More than one torch on the import path.", judge=installation.two_torches),
    Check(
        name="unmet requirements",
        looks_at="Requirements of installed packages that are not met.",
        judge=installation.unmet_requirements,
    ),
    Check(name="moved pins", looks_at="Versions other than constraints.txt has.", judge=installation.moved_pins),
    Check(
        name="unneeded packages",
        looks_at="In the environment that launch.py made: packages that nothing needs.",
        judge=installation.bloat,
    ),
    Check(
        name="slow extensions",
        looks_at="Extensions whose import takes more than 0.5 s.",
        judge=installation.slow_extensions,
    ),
    # What was set
    Check(
        name="fp32 on a GPU",
        looks_at="--no-half, --precision full or `dtype = fp32`.",
        judge=wishes.full_precision,
    ),
    Check(
        name="attention in slices",
        looks_at="A1111's flags for attention without a fused kernel.",
        judge=wishes.old_attention,
    ),
    Check(
        name="needless offloading",
        looks_at="--medvram, --lowvram or `offload` on a card with room for SDXL.",
        judge=wishes.needless_offload,
    ),
    Check(name="settings file", looks_at="A settings file that is refused.", judge=wishes.unreadable_settings),
    Check(
        name="stale profile",
        looks_at="Tuned profiles made with another torch, CUDA, driver or card.",
        judge=surroundings.stale_profile,
    ),
    Check(name="taken port", looks_at="Another program on port 7860.", judge=surroundings.taken_port),
    Check(name="old card", looks_at="Only cards without tensor cores (before Volta).", judge=surroundings.old_card),
    Check(
        name="Windows itself",
        looks_at="Windows with a card of capability 7.0 or newer.",
        judge=surroundings.windows_itself,
    ),
    Check(name="untuned", looks_at="No tuned profile for what computes here.", judge=surroundings.untuned),
    Check(
        name="attention packages",
        looks_at="SageAttention on a card that it has no kernels for; --xformers without xFormers.",
        judge=wishes.wished_packages,
    ),
)
