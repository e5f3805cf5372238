"""The weight store: models kept in memory, prepared before they are asked for, switched without a rebuild.

On a CPU a kept model is where it is computed with, so a switch seats it by reference. On other devices the networks
stand, and a switch pours weights from the host's memory into their parameters. docs/decisions/weight-store.md
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from hayate.engines.cache import Shelf, bytes_of
from hayate.engines.identity import EngineKey, MergedId, SourceId, source_id
from hayate.engines.mixing import Mixed, OpenMerges, mix, plan_mixing
from hayate.engines.networks import Loaders, Networks, config_of
from hayate.engines.staging import Staged
from hayate.engines.standing import Standing
from hayate.engines.torch import EngineFiles, TorchEngine, assemble
from hayate.errors import HayateError
from hayate.models.config import ModelConfig
from hayate.models.vae import AutoencoderKL
from hayate.runtime.evidence import Evidence
from hayate.runtime.precision import Precision
from hayate.weights.merged import ModelSource, start_source_hash

logger = logging.getLogger(__name__)


class ModelStore:
    """Hands out the engine of a model; keeps models and VAEs in memory, each kind up to its number of bytes.

    What an engine on a CPU computes with is counted, but always stays. On other devices the engine handed out last is
    the one that counts: its networks are those of the engines before it, with other weights in them, so no picture may
    be in the making while another model is asked for.
    """

    def __init__(
        self,
        cache_bytes: int,
        vae_cache_bytes: int,
        *,
        hashes_dir: Path | None = None,
        loaders: Loaders | None = None,
        is_poured: bool | None = None,
    ) -> None:
        """`hashes_dir` is where hashes are remembered; `is_poured` overrules the choice by device."""
        self._models = Shelf(cache_bytes, _size_of)
        self._vaes = Shelf(vae_cache_bytes, _size_of)
        self._loaders = loaders or Loaders()
        self._opened = OpenMerges()
        self._standing = Standing(self._models, self._vaes, self._loaders, self._opened)
        self._hashes_dir = hashes_dir
        self._is_poured = is_poured
        self.before_switch: Callable[[], None] = lambda: None
        """Called while the model in use is still whole: whoever changed its weights gives them back as they were."""
        self._lock = threading.Lock()
        self._switching = threading.Lock()
        self._seated: tuple[EngineKey, TorchEngine] | None = None
        self._hashes: dict[SourceId, Future[str]] = {}
        self._switches = self._prefetches = 0
        self._mixed: list[Mixed] = []

    def engine(
        self, model: ModelSource, device: torch.device, precision: Precision, vae: Path | None = None
    ) -> TorchEngine:
        """The engine of a model file, with the VAE of its own file or of another.

        Raises: UsageError where there is no file, ModelFileError; then the engine of before still serves.
        Cost: nothing for the model of before. For one that is kept, a look at a table on a CPU and one copy of its
        weights on other devices. For any other, its load.
        """
        asked = _asked(model, device, precision, vae)
        with self._switching:
            if self._seated is None or self._seated[0] != asked:
                self.before_switch()
                self._seated = None  # pouring that fails half-way leaves nothing that could be handed out
                self._mixed = []
                with self._opened:
                    networks, decoder = self._parts(asked)
                self._seated = asked, self._assembled(networks, decoder, asked)
                self._switches += 1
                self._drop_replaced(asked)
            return self._seated[1]

    def prefetch(self, model: ModelSource, device: torch.device, precision: Precision, vae: Path | None = None) -> None:
        """Begins to load a model in another thread, to be kept, and to hash it; who asks for it meanwhile joins in.

        A model that doesn't fit beside the one in use isn't kept, but its file is in the page cache then. Where nothing
        is ever kept, it is only hashed. What is wrong with a file is said when the model is asked for.
        Raises: UsageError where there is no file.
        """
        asked = _asked(model, device, precision, vae)
        if self._hashes_dir is not None:
            self.hash_of(model)
        with self._lock:
            self._prefetches += 1
        self._begin(asked)

    def hash_of(self, path: ModelSource) -> Future[str]:
        """The "Model hash" of a file, from another thread, computed once for as long as the file stays as it is.

        Raises: UsageError where there is no file.
        """
        file = source_id(path)
        with self._lock:
            for old in [old for old in self._hashes if file.replaces(old)]:
                del self._hashes[old]
            known = self._hashes.get(file)
            if known is None or (known.done() and known.exception()):
                self._hashes[file] = start_source_hash(path, self._hashes_dir)
            return self._hashes[file]

    def clear(self) -> None:
        """Gives up everything, also what is in use: its memory is free when its users let go of it."""
        with self._switching:
            self._seated = None
            self._standing.clear()
            for shelf in (self._models, self._vaes):
                shelf.drop(lambda _: True)

    def evidence(self) -> tuple[Evidence, ...]:
        """What the caches, the prefetching and the switching did so far."""
        return (
            _shelf_evidence("checkpoints cache", self._models),
            _shelf_evidence("VAE cache", self._vaes),
            Evidence(
                name="prefetch",
                requested=f"{self._prefetches} models",
                active=self._models.prepared > 0,
                detail=f"{self._models.prepared} were ready or on their way when asked for",
            ),
            self._switch_evidence(),
            *self._merge_evidence(),
        )

    def _assembled(self, networks: Networks, decoder: AutoencoderKL, asked: EngineKey) -> TorchEngine:
        files = EngineFiles(model=asked.model.path, vae=asked.vae.path, loaders=self._loaders)
        return assemble(networks, decoder, files, asked.device, asked.precision)

    def _parts(self, asked: EngineKey) -> tuple[Networks, AutoencoderKL]:
        if self._pours(asked.device):
            return self._standing_parts(asked)
        networks = self._remixed(asked) or self._networks(asked)
        decoder = self._remixed_vae(asked, networks.config) or self._decoder(asked, networks.config)
        self._models.use(asked.networks(asked.device), networks)
        self._vaes.use(asked.decoder(networks.config, asked.device), decoder)
        return networks, decoder

    def _standing_parts(self, asked: EngineKey) -> tuple[Networks, AutoencoderKL]:
        builds = self._standing.builds
        parts = self._standing.switch(asked)
        self._mixed = self._standing.mixed
        if self._standing.builds != builds:
            self._begin(asked)  # it was loaded straight to the device, so nothing of it is kept yet for the way back
        return parts

    def _remixed(self, asked: EngineKey) -> Networks | None:
        """The networks in use with another merge of the same files in them; None where they can't become it."""
        key = asked.networks(asked.device)
        dtypes = (key.unet, *(key.text for _ in config_of(asked.model).text))
        return self._remix(self._models, key, config_of(asked.model), dtypes)

    def _remixed_vae(self, asked: EngineKey, config: ModelConfig) -> AutoencoderKL | None:
        key = asked.decoder(config, asked.device)
        return self._remix(self._vaes, key, config, (key.dtype,))

    def _remix(self, shelf: Shelf, key: Any, config: ModelConfig, dtypes: tuple[torch.dtype, ...]) -> Any:
        used = shelf.in_use()
        if used is None or key in set(shelf.keys()) or replace(used[0], file=key.file) != key:
            return None
        before, part = used[0].file, used[1]
        if not (isinstance(key.file, MergedId) and key.file.is_variant_of(before)):
            return None
        mixing = plan_mixing(self._opened, key.file, before, config, is_vae=isinstance(part, AutoencoderKL))
        with shelf.becoming(key):
            self._mixed.append(mix(self._opened, mixing, part, dtypes))
        return part

    def _networks(self, asked: EngineKey, *, is_ahead: bool = False) -> Networks:
        key = asked.networks(asked.device)
        return self._models.take(
            key, lambda: self._loaders.networks(key.file.path, key.device, asked.precision), is_ahead=is_ahead
        )

    def _decoder(self, asked: EngineKey, config: ModelConfig, *, is_ahead: bool = False) -> AutoencoderKL:
        key = asked.decoder(config, asked.device)
        return self._vaes.take(
            key, lambda: self._loaders.vae(key.file.path, config, key.dtype, key.device), is_ahead=is_ahead
        )

    def _pours(self, device: torch.device) -> bool:
        return device.type != "cpu" if self._is_poured is None else self._is_poured

    def _begin(self, asked: EngineKey) -> None:
        if not self._models.limit_bytes:
            return  # nothing would be kept
        threading.Thread(target=self._prepare, args=(asked,), name="prefetch-model", daemon=True).start()

    def _prepare(self, asked: EngineKey) -> None:
        try:
            if self._pours(asked.device):
                self._standing.stage(asked)
            else:
                self._networks(asked, is_ahead=True)
                self._decoder(asked, config_of(asked.model), is_ahead=True)
        except (HayateError, OSError, MemoryError, RuntimeError) as error:  # PyTorch's "out of memory" is the last
            logger.info("preparing %s failed: %s", asked.model.path, error)

    def _drop_replaced(self, asked: EngineKey) -> None:
        """Gives up what was made of files that have been replaced since."""
        for shelf in (self._models, self._vaes):
            shelf.drop(lambda key: any(file.replaces(key.file) for file in (asked.model, asked.vae)))

    def _switch_evidence(self) -> Evidence:
        poured = self._standing.poured
        detail = f"{self._switches} switches"
        if poured:
            size_bytes, seconds = sum(each.size_bytes for each in poured), sum(each.seconds for each in poured)
            pinned = "page-locked" if all(each.is_pinned for each in poured) else "pageable"
            detail += f"; the last copied {_size(size_bytes)} from {pinned} memory in {1000 * seconds:.0f} ms"
        is_active = bool(poured) or bool(self._mixed) or self._models.found + self._models.joined > 0
        return Evidence(name="switch", requested="without a rebuild", active=is_active, detail=detail)

    def _merge_evidence(self) -> tuple[Evidence, ...]:
        """What of a merge was made in the weights that stand."""
        if not self._mixed:
            return ()
        evaluated, kept = sum(each.evaluated for each in self._mixed), sum(each.kept for each in self._mixed)
        seconds = sum(each.seconds for each in self._mixed)
        detail = f"{evaluated} of {evaluated + kept} tensors evaluated in {1000 * seconds:.0f} ms, the others stayed"
        if overflown := sum(each.overflown for each in self._mixed):
            detail += f"; {overflown:,} numbers became infinite"
        return (Evidence(name="merge", requested="in place", active=True, detail=detail),)


def _asked(model: ModelSource, device: torch.device, precision: Precision, vae: Path | None) -> EngineKey:
    return EngineKey(model=source_id(model), vae=source_id(vae or model), device=device, precision=precision)


def _size_of(part: Networks | AutoencoderKL | Staged) -> int:
    if isinstance(part, Staged):
        return part.size_bytes
    return bytes_of(part.modules if isinstance(part, Networks) else [part])


def _shelf_evidence(name: str, shelf: Shelf) -> Evidence:
    counted = f"{shelf.found} found, {shelf.joined} joined, {shelf.made} loaded, {shelf.given_up} given up"
    detail = f"{len(shelf.keys())} kept in {_size(shelf.size_bytes)}; {counted}"
    return Evidence(name=name, requested=_size(shelf.limit_bytes), active=shelf.found + shelf.joined > 0, detail=detail)


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.2f} GiB"
