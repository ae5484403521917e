"""The Dual Interaction Network and what it is compared with; importing this imports torch.

`factory` builds a network from its options. A DIN (`din`) takes the original and the enhanced slices through two
encoders (`encoder`, of the blocks in `convnext`; or `backbone`, one of timm's networks), which meet at every level in a
Dual Interaction Fusion Module (`fusion`); a `decoder`, or that of `emcad`, makes logits of the fused levels. For
inference `rewriting` composes what is linear (`composed`), so that the same function takes fewer steps
(`rewritten_attention`, `rewritten_decoder`). `comparators` are networks of other makers with the same inputs and
outputs. `cdal` is a diffusion of masks, whose samples are possible segmentations; `grcsf` a U-shaped network that is
told where an image is not what a masked autoencoder expects. `context` is a small 3D network that sees a whole trunk,
for those that see slices, and `obelisk` one that sees the box of its organs. `kinds` says how a network learns and what
it returns.
"""

from dinsegment.network.cdal.network import CDAL, CDALConfig
from dinsegment.network.comparators import Comparator, ComparatorConfig
from dinsegment.network.din import CONFIGS, DIN, DIN_BASE, DIN_SMALL, DINConfig, count_parameters
from dinsegment.network.factory import Network, NetworkConfig, build_network, network_config
from dinsegment.network.grcsf.autoencoder import AutoencoderConfig, MaskedAutoencoder
from dinsegment.network.grcsf.network import GRCSF, GRCSFConfig
from dinsegment.network.kinds import Kind
from dinsegment.network.rewriting import rewrite

__all__ = [
    "CDAL",
    "CONFIGS",
    "DIN",
    "DIN_BASE",
    "DIN_SMALL",
    "GRCSF",
    "AutoencoderConfig",
    "CDALConfig",
    "Comparator",
    "ComparatorConfig",
    "DINConfig",
    "GRCSFConfig",
    "Kind",
    "MaskedAutoencoder",
    "Network",
    "NetworkConfig",
    "build_network",
    "count_parameters",
    "network_config",
    "rewrite",
]
