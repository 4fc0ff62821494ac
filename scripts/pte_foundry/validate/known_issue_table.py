"""The table of known device issues.

Each entry comes from a public report or from Apple's own tests, with its date. An entry may be
fixed in a later system; ``systems`` then has the last affected one, if the report names it. To add
an issue, append an :class:`Entry`. :mod:`pte_foundry.validate.known_issues` matches them.

CT stands for github.com/apple/coremltools, ET for github.com/pytorch/executorch. ``rdar`` entries
are expected failures in coremltools' own tests, which Apple runs on Macs.
"""

from pte_foundry.validate.known_issue_conditions import (
    Entry,
    attention,
    enumerated_norms,
    flexible,
    large_heads,
    narrowed,
    odd_output_shape,
    palettized,
    returns_what_it_writes,
    rough_stride,
    state_sizes,
)

KNOWN_ISSUES: tuple[Entry, ...] = (
    Entry(
        "non_zero",
        "nonzero(), where(x) or a boolean index gives a result of unknown size; keep it out with "
        "partitioner.skip_ops_for_coreml_delegation: [aten.nonzero.default]",
        "crash",
        ("cpu", "gpu", "ne"),
        "ET #17537 (2026-02-18, still on 2026-09-18)",
    ),
    Entry(
        "conv",
        "a convolution of one dimension with stride, dilation and groups above 1",
        "crash",
        ("cpu", "gpu", "ne"),
        "ET #11688 (2025-06-14)",
        lambda c: (
            len(c.shape("x")) == 3
            and all(max(c.numbers(p), default=1) > 1 for p in ("strides", "dilations", "groups"))
        ),
    ),
    Entry(
        "batch_norm",
        "batch norm of rank 5",
        "crash",
        ("gpu",),
        "ET #11701 (2025-06-15), CT #2276 (2024-07-17)",
        lambda c: len(c.shape("x")) == 5,
    ),
    Entry(
        "scaled_dot_product_attention",
        "fp16 attention with a head of more than 256 and a query of 2 or more",
        "crash",
        ("cpu",),
        "kasper0406/stablehlo-coreml #89 (2026-08-26, macOS 26.5)",
        lambda c: attention(c, head=256, length=2),
        (18, None),
    ),
    Entry(
        "matmul",
        "a matrix product with a transposed softmax, deep in a network",
        "crash",
        ("gpu",),
        "ultralytics/ultralytics #25860 (2026-08-19, macOS 26.6)",
        lambda c: bool(c.constants.get("transpose_y")) and c.maker("y") == "softmax",
    ),
    Entry(
        "*",
        "an output is the value written into a state",
        "crash",
        ("cpu", "gpu", "ne"),
        "CT pull #2713 (2026-05-22)",
        returns_what_it_writes,
        (18, None),
    ),
    Entry(
        "*",
        "palettized weights and states: after 100 to 200 calls",
        "crash",
        ("ne",),
        "CT #2716 (2026-05-24, macOS 26.5, coremltools 9.0)",
        lambda a: palettized(a) and bool(a.description.states),
        (18, None),
    ),
    Entry(
        "*",
        "palettized weights with a scale per channel: mps.dequantize fails verification",
        "crash",
        ("ne",),
        "CT pull #2688 (2026-09-23, macOS 26.6)",
        lambda a: palettized(a) and "constexpr_blockwise_shift_scale" in a.description.ops,
        (26, None),
    ),
    Entry(
        "*",
        "more than 600 MB of weights: the ANE compiler fails and the first call is killed",
        "crash",
        ("ne",),
        "CT #2758 (2026-07-14), ET #19635 (2026-05-18, iOS 26.4)",
        lambda a: sum(a.description.weight_bytes.values()) > 600e6,
    ),
    Entry(
        "*",
        "ExecuTorch's Core ML delegate needs iOS 16",
        "crash",
        ("cpu", "gpu", "ne"),
        "ET #6984 (2024-11-20, iOS 15.5)",
        systems=(None, 15),
    ),
    Entry(
        "scaled_dot_product_attention",
        "fused attention with a batch of 10 or more",
        "wrong",
        ("gpu",),
        "CT #2650 (2026-02-12, macOS 26.2)",
        lambda c: attention(c, batch=10),
        (18, None),
    ),
    Entry(
        "scaled_dot_product_attention",
        "fused attention in fp16; decompose it if the outputs differ on a device",
        "wrong",
        ("ne",),
        "ET #15833, ET pull #16144 (2025-12-09)",
        attention,
        (26, None),
    ),
    Entry(
        "conv",
        "padding, stride 2 or more and an even kernel size: the last element can be wrong",
        "wrong",
        ("cpu", "gpu", "ne"),
        "CT #2515 (2025-05-14)",
        lambda c: (
            max(c.numbers("strides"), default=1) > 1
            and any(c.numbers("pad"))
            and len(c.shape("weight")) == 4
            and (c.shape("weight")[1] or 1) > 1
            and len({k % 2 for k in c.shape("weight")[2:] if k}) == 2
        ),
    ),
    Entry(
        "conv_transpose",
        "an output_shape other than the padding gives: CPU and the other units differ",
        "wrong",
        ("gpu", "ne"),
        "CT #2281 (2024-07-19)",
        odd_output_shape,
    ),
    Entry(
        "avg_pool",
        "padding of 3 or more that counts in the average, with a stride above 1",
        "wrong",
        ("cpu", "gpu", "ne"),
        "CT #1901 (2023-07-05: kernel 7, stride 4, padding 3)",
        lambda c: (
            max(c.numbers("pad"), default=0) >= 3
            and max(c.numbers("strides"), default=1) > 1
            and not c.constants.get("exclude_padding_from_average")
        ),
    ),
    Entry(
        "gru",
        "results differ from the definition",
        "wrong",
        ("gpu", "ne"),
        "webmachinelearning/webnn #689 (2024-10-29)",
    ),
    Entry(
        "crop_resize",
        "any crop and resize",
        "wrong",
        ("gpu",),
        "rdar 97398582 (coremltools 9.0, TestCropResize)",
    ),
    Entry(
        "conv",
        "weights that the program computes",
        "wrong",
        ("gpu", "ne"),
        "rdar 97398343 (coremltools 9.0, TestConv.test_builder_to_backend_stress_weights_input)",
        lambda c: bool(c.operation.inputs.get("weight")) and "weight" not in c.constants,
    ),
    Entry(
        "resample",
        "grid sampling with reflection padding and align_corners=False",
        "wrong",
        ("cpu", "gpu", "ne"),
        "microsoft/onnxruntime pull #21431 (2024-07-20)",
        lambda c: (
            c.constants.get("padding_mode") in ("reflection", "symmetric")
            and not c.constants.get("align_corners")
        ),
    ),
    *(
        Entry(
            op,
            "int32 data narrowed to 16 bits: values that do not fit may wrap",
            "wrong",
            ("ne",),
            "CT #2222 (2024-05-16)",
            narrowed,
            (17, None),
        )
        for op in ("gather", "gather_along_axis", "gather_nd", "topk")
    ),
    Entry(
        "*",
        "the last size of a state is not a multiple of 32",
        "refused",
        ("ne",),
        "CT #2631 (2025-12-19, macOS 15.2)",
        state_sizes,
        (18, None),
    ),
    Entry(
        "*",
        "states: ExecuTorch's pip runtime and apps built without state support cannot bind them "
        '("must be an MLState")',
        "refused",
        ("cpu", "gpu", "ne"),
        "ET #21855 (2026-08-20)",
        lambda a: bool(a.description.states),
        (18, None),
    ),
    Entry(
        "conv_transpose",
        "a stride of 16 or more: BNNS cannot build the program",
        "refused",
        ("cpu", "ne"),
        "CT #2450 (2025-02-15, iOS hardware)",
        lambda c: max(c.numbers("strides"), default=1) >= 16,
        (17, None),
    ),
    Entry(
        "*",
        "two or more attentions with a head of more than 256: the ANE compiler fails, all on CPU",
        "slow",
        ("ne",),
        "kasper0406/stablehlo-coreml #89 (2026-08-26, macOS 26.5)",
        large_heads,
        (18, None),
    ),
    Entry(
        "conv",
        "a stride divisible by 5, 7 or 11: half a minute to more than five to compile",
        "slow",
        ("ne",),
        "CT #2473 (2025-03-19), CT #2173 (2024-03-19, iPad: wrong outputs)",
        rough_stride,
    ),
    Entry(
        "topk",
        "topk and the gathers of its indices run on the CPU",
        "slow",
        ("ne",),
        "roboflow/rf-detr pull #1495 (2026-09-21, MLComputePlan on macOS 27)",
    ),
    Entry(
        "resample",
        "grid sampling runs on the CPU",
        "slow",
        ("gpu", "ne"),
        "CT #1875 (2023)",
    ),
    *(
        Entry(
            op,
            "recurrent operations do not run on the Neural Engine",
            "slow",
            ("ne",),
            "CT #1780 (2023-02-26, answer of the maintainers)",
        )
        for op in ("lstm", "gru", "rnn")
    ),
    Entry(
        "*",
        "inputs of flexible size: the Neural Engine is not used",
        "slow",
        ("ne",),
        "CT #1764 (2023-02-09)",
        flexible,
    ),
    Entry(
        "*",
        "layer norm and enumerated shapes: the Neural Engine is not used",
        "slow",
        ("ne",),
        "CT #1909 (2023-07-10)",
        enumerated_norms,
    ),
)
"""All entries, worst effect first."""
