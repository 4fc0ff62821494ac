"""Protects the messages of upstream's errors: operator, module, source line, cause and way out.

The models fail in upstream itself. Those whose failure may be repaired one day are made up.
"""

import re

import pytest
import torch
import torch.nn.functional as F
from coremltools.converters.mil import mil
from pte_foundry.errors import ConfigError
from pte_foundry.lowering import edge_program
from pte_foundry.lowering.causes import CAUSES, cause_of
from pte_foundry.lowering.coreml import LoweringError, lower
from pte_foundry.lowering.edge_program import EdgeError
from pte_foundry.lowering.enumerated_shapes import shape_findings
from pte_foundry.lowering.explain import Operators, explained, what_it_said
from pte_foundry.models import programs
from pte_foundry.models.inputs import inputs_table

from tests.unit.lowering.test_lowering import TARGET


class Pool(torch.nn.Module):
    def forward(self, x):
        return F.max_pool2d(x, 3, 1, 1, return_indices=True)


class Pooled(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.front = torch.nn.Conv2d(3, 4, 1)
        self.pool = Pool()

    def forward(self, x):
        return self.pool(self.front(x))


class Crowded(torch.nn.Module):
    """Six dimensions, after a transposition that Core ML takes."""

    def forward(self, x):
        return x.relu().reshape(1, 1, 2, 2, 2, 2).permute(5, 4, 3, 2, 1, 0) + 1


class Inverse(torch.nn.Module):
    def forward(self, x):
        return torch.linalg.inv(x)


class Cubic(torch.nn.Module):
    def forward(self, x):
        return F.grid_sample(x, torch.zeros(1, 4, 4, 2), mode="bicubic", align_corners=True)


class Half(torch.nn.Module):
    def forward(self, x):
        return x.bfloat16().float()


def failure(net, x, target=TARGET, *, folder=None, skip=()):
    """The message of a model that upstream cannot lower; through files if there is a folder."""
    program = torch.export.export(net.eval().requires_grad_(False), (x,), strict=False)
    if folder:
        programs.save(program, folder / "program.pt2")
        program = programs.load(folder / "program.pt2")
    edge = edge_program.make(program, list(skip))
    if folder:
        metadata = edge_program.save(edge, folder / "edge.pt2")
        edge = edge_program.load(folder / "edge.pt2", metadata)
    with pytest.raises(LoweringError) as caught:
        lower(edge, target)
    return str(caught.value)


def skipping(*operators, full=False):
    options = {"skip_ops_for_coreml_delegation": list(operators), "lower_full_graph": full}
    return TARGET | {"partitioner": TARGET["partitioner"] | options}


def test_operator_module_line_cause_and_way_out_are_told(tmp_path):
    """As the rules lower it: the programs are saved and read again in between."""
    first, *rest = failure(Pooled(), torch.ones(1, 3, 8, 8), folder=tmp_path).splitlines()
    assert re.search(
        r"upstream cannot lower aten\.max_pool2d_with_indices\.default @ pool "
        r"\(lowering/test_explain\.py:\d+: return F\.max_pool2d\(x, 3, 1, 1, "
        r"return_indices=True\)\) to Core ML specification 9 in float16: Core ML's max pooling "
        r"gives no indices$",
        first,
    )
    assert rest[0].startswith("  fix: use the pooled values alone")
    pasted = "partitioner: {skip_ops_for_coreml_delegation: [aten.max_pool2d_with_indices.default]}"
    assert rest[1] == f"  to run it outside of Core ML, write in the target: {pasted}"
    assert rest[2].startswith("  upstream said: AssertionError: coremltools lowering does not")


def test_the_way_around_works():
    net, x = Pooled().eval().requires_grad_(False), torch.ones(1, 3, 8, 8)
    skip = ["aten.max_pool2d_with_indices.default"]
    edge = edge_program.make(torch.export.export(net, (x,), strict=False), skip)
    assert lower(edge, skipping(*skip))


def test_a_skip_list_is_extended_and_not_replaced():
    x = torch.ones(1, 3, 8, 8)
    text = failure(Pooled(), x, skipping("aten.mm.default"), skip=["aten.mm.default"])
    assert "[aten.mm.default, aten.max_pool2d_with_indices.default]" in text


def test_no_skip_list_is_offered_where_none_is_allowed():
    assert "skip_ops" not in failure(Pooled(), torch.ones(1, 3, 8, 8), skipping(full=True))


def test_the_operator_of_a_mil_operation_is_found_by_its_debug_handle():
    """The error names the operation after a cast: ``aten_view_copy_default_cast_fp16``."""
    text = failure(Crowded(), torch.ones(4, 4))
    assert "cannot lower aten.view_copy.default of aten.reshape.default (" in text
    assert "x.relu().reshape(1, 1, 2, 2, 2, 2)" in text
    assert "a Core ML tensor has at most 5 dimensions" in text


@pytest.mark.parametrize(
    ("net", "shape", "operator", "problem"),
    [
        (Inverse(), (1, 4, 4), "aten.linalg_inv.default (", "no operator of linear algebra"),
        (Cubic(), (1, 1, 4, 4), "aten.grid_sampler.default (", "sampling is bilinear or nearest"),
        (Half(), (4, 4), "", "Core ML has no bfloat16"),
    ],
)
@pytest.mark.parametrize(("version", "precision"), [(7, "float32"), (9, "float16")])
def test_known_causes(net, shape, operator, problem, version, precision):
    target = TARGET | {"specification_version": version, "compute_precision": precision}
    text = failure(net, torch.ones(shape), target)
    assert problem in text.splitlines()[0]
    assert operator in text.splitlines()[0]
    assert "\n  fix: " in text
    assert text.endswith(tuple("abcdefghijklmnopqrstuvwxyz0123456789.)]}'`"))


def test_an_error_of_a_pass_names_pass_and_operator(monkeypatch):
    def fails(*_, **__):
        raise ValueError("this var is not that one")

    monkeypatch.setattr(mil.Block, "replace_uses_of_var_after_op", fails)
    text = failure(torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.GELU()), torch.ones(1, 4))
    assert re.search(r"ValueError: this var is not that one, in the pass (common::)?\w+\n", text)


def test_an_empty_message_is_replaced_by_the_line_that_failed():
    """``AssertionError: `` with nothing behind it was all that a user saw of torch.cond."""

    def fails():
        assert not [1]

    with pytest.raises(AssertionError) as caught:
        fails()
    # pytest gives its own message to asserts of tests.
    caught.value.args = ()
    assert re.fullmatch(
        r"AssertionError \(tests/unit/lowering/test_explain\.py:\d+: assert not \[1\]\)",
        what_it_said(caught.value),
    )
    with pytest.raises(KeyError) as caught:
        {}["val"]
    assert re.fullmatch(
        r"KeyError: 'val' \(tests/unit/lowering/test_explain\.py:\d+: \{\}\[\"val\"\]\)",
        what_it_said(caught.value),
    )


def test_control_flow_names_its_operator_though_upstream_says_nothing():
    class Choice(torch.nn.Module):
        def forward(self, x):
            return torch.cond(x.sum() > 0, lambda v: v + 1, lambda v: v * 2, (x,))

    text = failure(Choice(), torch.ones(2, 3))
    assert text.startswith("upstream cannot lower cond (")
    assert "choose with torch.where" in text
    assert "AssertionError (executorch/" in text


def test_programs_and_advice_in_upstream_messages_are_left_out():
    appended = "\nThe toplevel program: ExportedProgram:\n    class GraphModule" + "x" * 9999
    assert what_it_said(ValueError(f"one two three{appended}")) == "ValueError: one two three"
    long = what_it_said(ValueError("word " * 999))
    assert len(long) < 700
    assert long.endswith(" …")


def test_an_error_while_the_edge_program_is_made_has_operator_and_line():
    class Turned(torch.nn.Module):
        def forward(self, x):
            z = torch.view_as_complex(x.reshape(2, 2, 2)) * 1j
            return torch.view_as_real(z)

    program = torch.export.export(Turned(), (torch.ones(2, 4),), strict=False)
    with pytest.raises(EdgeError) as caught:
        edge_program.make(program, [])
    assert re.search(
        r"cannot turn aten\.mul\.Tensor \(.*test_explain\.py:\d+: z = torch.* into the edge "
        r"dialect: complex numbers cannot",
        str(caught.value),
    )


def test_operators_that_share_a_weight_are_named():
    class Tied(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.emb = torch.nn.Embedding(8, 4)
            self.out = torch.nn.Linear(4, 8, bias=False)
            self.out.weight = self.emb.weight

        def forward(self, ids):
            return self.out(self.emb(ids))

    ids = torch.zeros(1, 2, dtype=torch.int64)
    edge = edge_program.make(torch.export.export(Tied().eval(), (ids,)), [])
    known = Operators([edge.program], edge.debug_handles)
    error = ValueError("compression config conflict detected between ops a and b.")
    text = explained(error, "lower {}", known, [])
    assert "untie the weights of aten.embedding.default @ emb and aten.linear.default @ out" in text
    assert "{sharing}" not in explained(error, "lower {}", Operators([], {}), [])


MESSAGES = [
    # operator, what upstream says (collected from builds of other people's models), the fix
    ("aten.scaled_dot_product_attention.default", "ValueError: Incompatible dim 1", "repeat"),
    ("aten.scaled_dot_product_attention.default", "ValueError: … same batch dimension", "repeat"),
    ("aten.pad.default @ a", "ValueError: Pad mode should be one of {'constant'}", "torch.cat"),
    ("aten.hann_window.default", "ValueError: got 1 input(s), expected [5, 6]", "register_b"),
    ("aten.fft_rfft.default", "ValueError: … got 1 input(s), expected [4]", "'ortho'"),
    ("aten.cosine_similarity.default", "ValueError: got 3 input(s), expected [4]", "F.normalize"),
    ("aten._unique2.default", "ValueError: got 1 input(s), expected [4]", "simpler operators"),
    ("", "TypeError: dtype=<class '…'> is unsupported for inputs/outputs of the model", "convert"),
    ("", "KeyError: torch.complex64", "two real tensors"),
    ("aten.index_put.default @ cache", "ValueError: Input squeeze_0 has rank 1", "torch.where"),
    ("", "ValueError: The input ids has a symbolic shape, but you did not provide an enumeration "
         "for it", "enumerated_shapes"),
    ("", "ValueError: Core ML does not support size variables that are expressions of symbolic "
         "variables, but got 4*s89 in tensor image.", "use a plain Dim"),
    ("", "ValueError: New var %a: (1, 72, uint8)(Tensor) doesn't have compatible subtype of "
         "existing var %b: (1, 72, int8)", "calibrate"),
    ("", "AssertionError: Constant s was tagged to be consumed by the buffer", "clone()"),
    ("aten.foo.default", "NotImplementedError: PyTorch convert function for op 'foo' not "
                         "implemented.", "other operators"),
]  # fmt: skip


@pytest.mark.parametrize(("operator", "said", "fix"), MESSAGES)
def test_causes_of_messages(operator, said, fix):
    assert fix in cause_of(operator, said).fix


def test_what_is_unknown_has_no_cause():
    assert cause_of("aten.add.Tensor @ block.max_pool", "RuntimeError: out of luck") is None


@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: cause.problem[:40])
def test_every_cause_is_reachable_and_reads_as_a_sentence(cause):
    assert cause.operator or cause.text, "it would apply to everything"
    assert not cause.problem.endswith(".")
    assert not cause.fix.endswith(".")
    for pattern in (cause.operator, cause.text):
        re.compile(pattern)


class Dynamic(torch.nn.Module):
    def forward(self, ids, x):
        return ids * 2, x + 1


def table(dtype=torch.int32):
    n = torch.export.Dim("n", min=1, max=64)
    arguments = (torch.ones(1, 8, dtype=dtype), torch.ones(1, 3))
    program = torch.export.export(Dynamic(), arguments, dynamic_shapes=({1: n}, None), strict=False)
    return inputs_table(program)


def test_the_table_of_inputs_has_names_dtypes_and_limits():
    assert table() == [
        {"name": "ids", "dtype": "int32", "shape": [1, [1, 64]]},
        {"name": "x", "dtype": "float32", "shape": [1, 3]},
    ]


SHAPES = [
    ({"ids": [[1, 8], [1, 16]]}, torch.int32, []),
    ({"ids": [[1, 1], [1, 64]]}, torch.int32, []),
    ({"input_ids": [[1, 8], [1, 16]], "ids": [[1, 8], [1, 9]]}, torch.int32, ["m has no such"]),
    ({"ids": [[1, 8], [1, 16]]}, torch.int64, []),
    ({"x": [[1, 3], [1, 4]]}, torch.int32, ["of m has a dynamic shape", "with a static shape"]),
    ({"ids": [[1, 8], [1, 65]]}, torch.int32, ["not exported for this shape"]),
    ({"ids": [[2, 8], [8]]}, torch.int32, ["not exported for this shape"] * 2),
]


@pytest.mark.parametrize(("shapes", "dtype", "problems"), SHAPES)
def test_enumerated_shapes_must_fit_the_inputs(shapes, dtype, problems):
    path = ("models", "m", "enumerated_shapes")
    found = list(shape_findings(path, shapes, table(dtype), "m"))
    assert len(found) == len(problems)
    for finding, problem in zip(found, problems, strict=True):
        assert problem in finding.problem
        assert finding.allowed
        assert finding.fix


def test_a_name_that_is_no_input_is_told_before_the_lowering_begins():
    program = torch.export.export(torch.nn.Linear(4, 4).eval(), (torch.ones(1, 4),))
    edge = edge_program.make(program, [])
    target = TARGET | {"enumerated_shapes": {"inputs": [[1, 4], [2, 4]]}}
    with pytest.raises(ConfigError, match=r"enumerated_shapes\.inputs\n.*no such input") as caught:
        lower(edge, target)
    assert "did you mean input_1?" in str(caught.value)
