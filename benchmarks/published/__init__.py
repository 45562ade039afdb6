"""Five published transfer-learning systems, each as a declaration on featx's public names."""

from __future__ import annotations

from benchmarks.published import (
    concrete_cracks_mobilenet_v2,
    corrosion_resnet50,
    dog_breeds_inception_resnet_v2,
    efficientnet_b0,
    inception_v3_mixed7,
    trucks_mobilenet_v2,
)
from benchmarks.published.system import System

SYSTEMS: dict[str, System] = {
    system.name: system
    for system in (
        corrosion_resnet50.SYSTEM,
        concrete_cracks_mobilenet_v2.SCRIPT,
        concrete_cracks_mobilenet_v2.README,
        efficientnet_b0.SYSTEM,
        inception_v3_mixed7.SYSTEM,
        trucks_mobilenet_v2.SYSTEM,
        dog_breeds_inception_resnet_v2.SYSTEM,
    )
}
