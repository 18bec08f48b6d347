"""Deterministic values for every variable of a network, by its name in a checkpoint.

The golden outputs in `tests/data/networks` were computed by the reference implementation with every variable
set to `values(name, shape)`.
"""

from __future__ import annotations

import zlib

import numpy as np

_PIECE = 1 << 16
_MEMORY_BRANCH_ENDS = ("/_memory_conv3_bn/", "/_kmeans_memory_conv3_bn/", "/_memory_ffn_conv2_bn/")


def values(name: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Returns float32 values of `shape` for the checkpoint key `name`, as in `variables/*.tsv`."""
    rng = np.random.default_rng([zlib.crc32(name.encode()), seed])
    leaf = name.rsplit("/", 1)[-1]
    if leaf in ("embeddings", "cluster_centers"):  # relative positions [509, depth]; [1, slots, 256]
        x = rng.standard_normal(shape)
    elif leaf == "layer_scale":
        x = rng.uniform(0.15, 0.35, shape)
    elif leaf == "gamma" and "/_memory_attention/_batch_norm_similarity/" in name:
        x = rng.uniform(0.1, 0.3, shape)
    elif leaf == "gamma" and "/_batch_norm_similarity/" in name:  # [content, query, key; 1; heads; 1; 1]
        x = rng.uniform(0.02, 0.06, shape)
        if name.startswith("encoder/"):  # Features grow with depth, products of them more.
            x *= np.array([0.1, 0.4, 0.4]).reshape(3, 1, 1, 1, 1)
    elif leaf == "gamma" and name.startswith("encoder/") and "/_batch_norm_retrieved_output/" in name:
        x = rng.uniform(0.5, 0.7, shape)  # Many such blocks follow each other.
    elif leaf == "gamma" and name.startswith("pixel_space_mask_batch_norm/"):
        x = rng.uniform(10.0, 14.0, shape)
    elif leaf == "gamma" and any(end in name for end in _MEMORY_BRANCH_ENDS):
        x = rng.uniform(0.15, 0.25, shape)
    elif leaf == "gamma":
        ends_a_branch = "_block" in name and ("/_conv2_bn/" in name or "/_conv3_bn/" in name)
        x = rng.uniform(0.15, 0.35, shape) if ends_a_branch else rng.uniform(0.8, 1.2, shape)
    elif leaf == "moving_variance" and "/_kmeans_memory_batch_norm_retrieved_value/" in name:
        x = rng.uniform(50.0, 150.0, shape)  # Sums over a cluster's pixels.
    elif leaf == "moving_variance":
        x = rng.uniform(0.5, 1.5, shape)
    elif leaf in ("beta", "moving_mean", "bias"):
        x = 0.1 * rng.standard_normal(shape)
    elif "_global_context/" in name or "/_switch/" in name:
        x = 0.002 * rng.standard_normal(shape)
    elif name.startswith("transformer_class_head/"):  # Sure of a class, often above the void bias.
        x = rng.standard_normal(shape) * 10.0 * np.sqrt(2.0 / np.prod(shape[:-1]))
    elif leaf == "depthwise_kernel":  # [h, w, channels, 1]
        x = rng.standard_normal(shape) * np.sqrt(2.0 / (shape[0] * shape[1]))
    else:  # [h, w, in, out] or [in, out]
        x = np.empty(shape, np.float32)
        # In pieces that stay in the processor's cache: half the time for the large kernels.
        for part in np.split(x.reshape(-1), range(_PIECE, x.size, _PIECE)):
            scaled = rng.standard_normal(part.size), np.sqrt(2.0 / np.prod(shape[:-1]))
            np.multiply(*scaled, part, casting="same_kind")
    return x.astype(np.float32, copy=False)
