"""Known causes of errors while a program is lowered, and what to write instead."""

from __future__ import annotations

import re
from dataclasses import dataclass

SHARING = "{sharing}"
"""In a fix: the operators that share a weight."""


@dataclass(frozen=True)
class Cause:
    """A known cause; it applies if both patterns are found.

    Attributes:
        problem: what is wrong, in a sentence without its full stop.
        fix: what to change in the model or the config.
        operator: regular expression for the operator's label, ``aten.pad.default @ front``.
        text: regular expression for upstream's error, ``ValueError: Pad mode should be …``.
        skippable: whether it may help to run the operator outside of Core ML.
    """

    problem: str
    fix: str
    operator: str = ""
    text: str = ""
    skippable: bool = True


# The first one that applies counts, so special ones come first. Versions: coremltools 9.0,
# executorch 1.5.1.
CAUSES = (
    Cause(
        "the query has more heads than key and value (enable_gqa=True), which Core ML's attention "
        "does not repeat",
        "repeat them in the model: k = k.repeat_interleave(q.size(1) // k.size(1), 1), and v alike",
        operator=r"scaled_dot_product_attention",
        text=r"Incompatible dim|same batch dimension|broadcast",
    ),
    Cause(
        "Core ML's max pooling gives no indices",
        "use the pooled values alone; unpool by interpolation or a transposed convolution",
        operator=r"max_pool\dd",
        text=r"handle/bind value at index",
    ),
    Cause(
        "Core ML gives only the first result of this operator",
        "use only its first result, or compute the others with other operators",
        text=r"handle/bind value at index",
    ),
    Cause(
        "control flow does not go into Core ML",
        "compute all branches and choose with torch.where; write loops with a fixed number of "
        "rounds in Python, which torch.export unrolls",
        operator=r"^(\w+\.)*(cond|while_loop|map_impl|scan|associative_scan)\b",
        skippable=False,
    ),
    Cause(
        "the methods of the program have different numbers of delegates, and sharing weights "
        "joins the first delegates of all methods, the second ones, and so on",
        "write in the target: multimethod_weight_sharing_strategy: disabled; or make everything go "
        "into one delegate, as partitioner: {lower_full_graph: true} requires",
        text=r"POSITIONAL weight sharing",
        skippable=False,
    ),
    Cause(
        "a buffer that forward() changes is also an output as it is",
        "return a copy of it: self.state.clone()",
        text=r"tagged to be consumed by the buffer|buffer mutation node",
        skippable=False,
    ),
    Cause(
        "a weight that two operators share must be quantized by one and not by the other",
        "leave op_linear_quantizer_config out of this target and use a weight-only recipe, which "
        "quantizes the shared weight once; or untie the weights of " + SHARING,
        text=r"compression config conflict",
        skippable=False,
    ),
    Cause(
        "Core ML pads with constants, by reflection or by replication, not in a circle",
        "concatenate: torch.cat([x[..., -n:], x, x[..., :n]], -1)",
        text=r"Pad mode should be one of",
    ),
    Cause(
        "a Core ML tensor has at most 5 dimensions",
        "merge dimensions before this operator, or split the work into steps with fewer",
        text=r"rank <= 5|rank (6|7|8|9|\d\d)\b|dimension.* at most 5",
    ),
    Cause(
        "coremltools converts a Fourier transform only with all of its arguments",
        "write them all: torch.fft.rfft(x, n, dim, 'ortho'); or multiply by tables of cos and sin",
        operator=r"fft_",
        text=r"got \d+ input\(s\), expected",
        skippable=False,
    ),
    Cause(
        "coremltools cannot compute a window",
        "compute it once in __init__() and keep it with self.register_buffer('window', …)",
        operator=r"(hann|hamming|blackman|bartlett|kaiser)_window",
    ),
    Cause(
        "coremltools converts this operator only with all of its arguments",
        "write it out: (F.normalize(a, dim=1) * F.normalize(b, dim=1)).sum(1)",
        operator=r"cosine_similarity",
        text=r"got \d+ input\(s\), expected",
    ),
    Cause(
        "coremltools converts this operator only with all of its arguments, and torch.export "
        "leaves out those that have their default values",
        "write the same with simpler operators",
        text=r"got \d+ input\(s\), expected",
    ),
    Cause(
        "complex numbers cannot enter or leave this part of the Core ML program",
        "keep real and imaginary parts in two real tensors; a Fourier transform is a matmul with "
        "tables of cos and sin",
        text=r"complex(64|128| data)|type_complex|'complex' object",
        skippable=False,
    ),
    Cause(
        "Core ML has no bfloat16",
        "remove autocast and .bfloat16() from the model; the target's compute_precision decides",
        text=r"bfloat16|bf16",
        skippable=False,
    ),
    Cause(
        "Core ML does not take this dtype at the borders of the program",
        "convert in the model: to float32, int32 or bool",
        text=r"is unsupported for inputs/outputs of the model|KeyError: torch\.\w+$",
    ),
    Cause(
        "Core ML's operator does not take this dtype",
        "convert the inputs of this operator first, e.g. x.float() or x.to(torch.int32)",
        text=r"of dtype from type domain|expected .* to have dtype|dtype .*not supported",
    ),
    Cause(
        "coremltools converts only some ways of assigning by index",
        "use torch.where(mask, value, x), or index with one list of positions on one axis",
        operator=r"index_put",
    ),
    Cause(
        "coremltools converts only some ways of indexing with tensors",
        "use torch.gather or torch.index_select, or index one axis at a time",
        operator=r"aten\.index\.",
    ),
    Cause(
        "coremltools sorts the largest values only in order",
        "use sorted=True",
        operator=r"topk",
        text=r"sorted",
    ),
    Cause(
        "coremltools does not convert this einsum",
        "write it with permute, reshape and torch.matmul",
        operator=r"einsum",
    ),
    Cause(
        "Core ML's sampling is bilinear or nearest",
        "use mode='bilinear'",
        operator=r"grid_sampler",
        text=r"KeyError",
    ),
    Cause(
        "Core ML has no operator of linear algebra for values that depend on the inputs",
        "compute it on the CPU outside of the model, or write a fixed number of iterations",
        operator=r"linalg_|inverse|cholesky|svd|qr\b",
        text=r"non-const|not implemented|not supported",
    ),
    Cause(
        "a pass joins a quantized value with one of another type. That happens when the ranges of "
        "activations are degenerate: all samples give the same value, or nearly 0",
        "calibrate with trained weights and real samples, or leave this module unquantized in the "
        "recipe",
        text=r"doesn't have compatible subtype.*(?<![a-z])u?int8",
        skippable=False,
    ),
    Cause(
        "a pass replaces a value by one of another shape or type",
        "report it with the model's line; reordering the operations there often helps",
        text=r"doesn't have compatible subtype",
    ),
    Cause(
        "an input with a dynamic shape has no enumerated shapes",
        "list its shapes in the model's enumerated_shapes, or make it static in dynamic_shapes()",
        text=r"did not provide an enumeration",
        skippable=False,
    ),
    Cause(
        "Core ML has no sizes that are computed from others, such as 4 * Dim(…)",
        "use a plain Dim in dynamic_shapes() and a model that takes all its sizes, e.g. by padding "
        "inside, or shapes: fixed in the target",
        text=r"expressions of symbolic variables",
        skippable=False,
    ),
    Cause(
        "coremltools needs a fixed size here, and this one depends on the input's shape",
        "make the dimension static in dynamic_shapes(), or compute the size another way",
        text=r"symbolic|is_symbolic|\bSymInt\b|must be (a )?const|Cannot convert symbols",
    ),
    Cause(
        "coremltools expects values of the same rank, and this operator mixes them",
        "reshape the operands to one rank before it",
        text=r"has rank \d+ != other inputs rank|got 0 values",
    ),
    Cause(
        "a part of the program that reads only constants would go into Core ML, beside an operator "
        "that stays outside; before iOS18 a Core ML model needs an input",
        "skip the operator that the model calls, with all that it is decomposed into "
        "(aten.linear.default instead of aten.addmm.default), or raise minimum_os to iOS18",
        text=r"Deploying a model with no inputs",
        skippable=False,
    ),
    Cause(
        "a group of operators has no result that anything reads",
        "remove the operation whose result is not used; a check of a size counts as one",
        text=r"Cannot determine insertion point",
        skippable=False,
    ),
    Cause(
        "coremltools has no conversion for this operator",
        "write it with other operators",
        text=r"convert function for op .* not implemented|Unsupported fx node",
    ),
)


def cause_of(operator: str, said: str) -> Cause | None:
    """Returns the first known cause that applies.

    Args:
        operator: the label of the operator; empty if it is not known.
        said: upstream's error, type and message.
    """
    for cause in CAUSES:
        found = re.search(cause.operator, operator), re.search(cause.text, said, re.I | re.S)
        if all(found):
            return cause
    return None
