"""Networks that stay on their device, compiled steps and graphs included, while models come and go in them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from hayate.engines.cache import Shelf, bytes_of
from hayate.engines.identity import EngineKey, MergedId, SourceId
from hayate.engines.mixing import Mixed, Mixing, OpenMerges, mix, plan_mixing
from hayate.engines.networks import Loaders, Networks, config_of
from hayate.engines.staging import Poured, Staged, pour_staged, stage
from hayate.models.config import ModelConfig
from hayate.models.vae import AutoencoderKL

_HOST = torch.device("cpu")


class Standing:
    """One U-Net with its text encoders, and one VAE, on a device; the shelves keep weights for them on the host."""

    def __init__(self, models: Shelf, vaes: Shelf, loaders: Loaders, opened: OpenMerges) -> None:
        """`opened` lasts as long as a switch does."""
        self.poured: list[Poured] = []
        """What the last switch copied."""
        self.mixed: list[Mixed] = []
        """What of merges the last switch made in place."""
        self.builds = 0
        """Parts that were loaded anew because none of their architecture stood."""
        self._models = models
        self._vaes = vaes
        self._loaders = loaders
        self._opened = opened
        self._networks = _Slot()
        self._vae = _Slot()

    def switch(self, asked: EngineKey) -> tuple[Networks, AutoencoderKL]:
        """The standing networks and VAE, with the weights that are asked for in them.

        Everything that can be wrong with a file is found before the first weight is changed.
        Raises: ModelFileError.
        """
        config = config_of(asked.model)
        new_networks, new_vae = self._networks_for(asked, config), self._vae_for(asked, config)
        self.poured, self.mixed = [], []
        networks = self._settle(self._networks, asked.networks(asked.device), new_networks)
        vae = self._settle(self._vae, asked.decoder(config, asked.device), new_vae)
        return replace(networks, config=config), vae  # the same architecture may have another prediction or size

    def stage(self, asked: EngineKey) -> None:
        """Puts the weights that are asked for on the shelves, as far as they fit there; merges are made in place."""
        if isinstance(asked.model, MergedId):
            return
        self._staged_networks(asked, is_ahead=True)
        self._staged_vae(asked, config_of(asked.model), is_ahead=True)

    def clear(self) -> None:
        """Gives up what stands."""
        self._networks, self._vae = _Slot(), _Slot()

    def _networks_for(self, asked: EngineKey, config: ModelConfig) -> Staged | Mixing | Networks | None:
        """Weights to pour, or networks to stand in place of those that do now; None where they are there already."""
        key, slot = asked.networks(asked.device), self._networks
        if slot.holds(key):
            return None
        if slot.is_like(key) and (slot.part.config.unet, slot.part.config.text) == (config.unet, config.text):
            if isinstance(key.file, MergedId):
                return plan_mixing(self._opened, key.file, slot.whose, config, is_vae=False)
            return self._staged_networks(asked)
        return self._loaders.networks(key.file.path, key.device, asked.precision)

    def _vae_for(self, asked: EngineKey, config: ModelConfig) -> Staged | Mixing | AutoencoderKL | None:
        key, slot = asked.decoder(config, asked.device), self._vae
        if slot.holds(key):
            return None
        if slot.is_like(key) and isinstance(key.file, MergedId):
            if slot.part.config == config.vae:
                return plan_mixing(self._opened, key.file, slot.whose, config, is_vae=True)
        elif slot.is_like(key):
            staged = self._staged_vae(asked, config)
            if staged.config == slot.part.config:
                return staged
        return self._loaders.vae(key.file.path, config, key.dtype, key.device)

    def _staged_networks(self, asked: EngineKey, *, is_ahead: bool = False) -> Staged:
        def make() -> Staged:
            networks = self._loaders.networks(asked.model.path, _HOST, asked.precision)
            return stage(networks.modules, networks.config, is_kept=self._models.fits(bytes_of(networks.modules)))

        return self._models.take(asked.networks(_HOST), make, is_ahead=is_ahead)

    def _staged_vae(self, asked: EngineKey, config: ModelConfig, *, is_ahead: bool = False) -> Staged:
        def make() -> Staged:
            vae = self._loaders.vae(asked.vae.path, config, asked.precision.vae, _HOST)
            return stage([vae], vae.config, is_kept=self._vaes.fits(bytes_of([vae])))

        return self._vaes.take(asked.decoder(config, _HOST), make, is_ahead=is_ahead)

    def _settle(self, slot: _Slot, key: Any, new: Any) -> Any:
        """Pours weights into what stands in `slot`, or puts a new part there."""
        if isinstance(new, Staged):
            slot.is_whole = False
            modules = slot.part.modules if isinstance(slot.part, Networks) else [slot.part]
            self.poured.append(pour_staged(modules, new, key.device))
        elif isinstance(new, Mixing):
            slot.is_whole = False
            dtypes = (
                (key.unet, *(key.text for _ in slot.part.text)) if isinstance(slot.part, Networks) else (key.dtype,)
            )
            self.mixed.append(mix(self._opened, new, slot.part, dtypes))
        elif new is not None:
            self.builds += 1
            slot.part = new
        slot.key, slot.is_whole = key, True
        return slot.part


@dataclass(slots=True)
class _Slot:
    """A place for one part; `key` says whose weights are in it."""

    key: Any = None
    part: Any = None
    is_whole: bool = False
    """False while weights are being changed, and for good when that was broken off."""

    @property
    def whose(self) -> SourceId | None:
        """Whose weights are in it, where that is sure."""
        return self.key.file if self.is_whole else None

    def holds(self, key: Any) -> bool:
        return self.is_whole and self.key == key

    def is_like(self, key: Any) -> bool:
        """Whether only the file differs: device, dtypes and scale are the same."""
        return self.key is not None and replace(self.key, file=key.file) == key
