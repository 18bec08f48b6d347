"""How far the maps of a kMaX-DeepLab network are from its golden arrays."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

MAPS = ("pixel_features", "mask_logits", "class_logits", "semantic_logits")
TIMES_ROUNDING = 10  # The tolerance, in what rounding alone gives in the reference implementation.


def shares_of_tolerance(maps: Mapping[str, np.ndarray], golden: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Returns the largest difference of each map of one image, as a share of what is tolerated.

    A golden map keeps every second, or fourth, row, column, slot or channel.
    """
    shares = {}
    for name in MAPS:
        found, expected = maps[name], golden[name]
        assert found.dtype == np.float32, name
        steps = [-(-had // kept) for had, kept in zip(found.shape, expected.shape, strict=True)]
        found = found[tuple(slice(None, None, step) for step in steps)]
        assert found.shape == expected.shape, name
        tolerance = TIMES_ROUNDING * golden[f"spread/{name}"] * golden[f"deviation/{name}"]
        shares[name] = float(np.abs(found - expected).max() / tolerance)
    return shares
