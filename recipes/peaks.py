"""Peak matmul rates of accelerators, for model FLOPs utilisation."""

# bfloat16 (dense, without sparsity), FLOP/s of one JAX device, by the beginning of its `device_kind`; the first that
# fits wins. TPUs: cloud.google.com/tpu/docs/v4, /v5e, /v5p, /v6e, /tpu7x (a v4, v5p chip is one device, a 7x chip two).
# GPUs: NVIDIA's data sheets of the A100, H100 (SXM, PCIe), H200 (SXM, NVL), GH200 and B200.
BFLOAT16 = (
    ("TPU v4", 275e12),
    ("TPU v5 lite", 197e12),
    ("TPU v5e", 197e12),
    ("TPU v5", 459e12),
    ("TPU v6", 918e12),
    ("TPU7x", 1153.5e12),
    ("NVIDIA A100", 312e12),
    ("NVIDIA H100 PCIe", 756e12),
    ("NVIDIA H100", 989e12),
    ("NVIDIA H200 NVL", 835e12),
    ("NVIDIA H200", 989e12),
    ("NVIDIA GH200", 989e12),
    ("NVIDIA B200", 2250e12),
)


def flops(device_kind: str) -> float | None:
    """Returns the peak bfloat16 FLOP/s of one device (`jax.Device.device_kind`); None where it is not known."""
    return next((peak for kind, peak in BFLOAT16 if device_kind.startswith(kind)), None)
