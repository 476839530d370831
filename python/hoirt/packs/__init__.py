"""Model packs: folders with networks, constants and settings, verified before anything is used."""

from hoirt.packs.manifest import Manifest, NetworkSpec, PortSpec, Settings, TokenizerSpec
from hoirt.packs.open import Pack, bundled, find_pack, list_packs, open_pack

__all__ = [
    "Manifest",
    "NetworkSpec",
    "Pack",
    "PortSpec",
    "Settings",
    "TokenizerSpec",
    "bundled",
    "find_pack",
    "list_packs",
    "open_pack",
]
