"""Every operation runs in every dtype that coremltools' definition admits, with the same values.

torch implements some dtypes only in part, and differs by operation in which. coremltools' builder
checks the arguments and declares the results; the interpreter's loop runs them.
"""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from pte_foundry.formats.mil_dtypes import BY_NAME
from pte_foundry.mil import Program
from pte_foundry.mil.instructions import (
    Block,
    Instruction,
    Name,
    NamedType,
    Operation,
    Variable,
    mark_last_uses,
)
from pte_foundry.mil.ops.random import restart_stream
from pte_foundry.mil.plan import run_function
from pte_foundry.mil.registry import OPSETS, find
from pte_foundry.mil.run import execute
from pte_foundry.mil.types import TensorType, type_of

from tests.mil.mil_arguments import ARGUMENTS
from tests.mil.mil_cases import coremltools
from tests.mil.test_mil_program import mb, save, spec

# Operations on blocks, lists, labels and states: below, and in the tests named here.
_OTHERS = {
    "cond", "while_loop", "make_list", "list_gather", "list_length", "list_read", "list_scatter",
    "list_write",  # test_blocks_and_lists
    "classify",  # test_mil_classify.py: probabilities are fp32
    "read_state",  # test_mil_program.py: no type domain
    "const", "_const_symbolic",
}  # fmt: skip

# Parameters that name the dtype of a result, for the first opset that has them.
_NAMED = {
    ("cast", "dtype"): "bool fp16 fp32 int32 int8 uint8 int16 uint16",
    ("reduce_argmax", "output_dtype"): "int32 uint16",
    ("reduce_argmin", "output_dtype"): "int32 uint16",
    ("topk", "output_indices_dtype"): "int32 uint16",
}

# Domains of which coremltools requires the same dtype.
_TIED = {"SrcT": "OffsetT", "OffsetT": "SrcT"}

# A boolean mask means something else than a float one, and the length of a table depends on the
# dtype of its indices: there is no other dtype to compare with.
_INCOMPARABLE = {"M", "IndicesT", "DstT"}

_ANY = "fp32 fp16 int32 bool", "fp32 fp16 int32 bool int8 uint8 int16 uint16"


@dataclass(frozen=True)
class Variant:
    """One version of an operation with one dtype in one of its type domains."""

    op: str
    opset: str
    domain: str
    dtype: str

    def __str__(self):
        return f"{self.op}-{self.opset}-{self.domain}-{self.dtype}"


def _versions():
    """(operation, first opset, definition) of each version of each operation."""
    coremltools()
    from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry

    for op, definitions in SSAOpRegistry.core_ops.items():
        seen = set()
        for target, definition in definitions.items():
            if target.name in OPSETS.values() and definition not in seen:
                seen.add(definition)
                yield op, target.name, definition


def _text(dtypes):
    from coremltools.converters.mil.mil.types import builtin_to_string

    return [builtin_to_string(dtype) for dtype in dtypes]


def _domains(op, opset, definition):
    """Admitted dtypes by domain: MIL's letters, or ``values`` where any tensor is taken."""
    domains = {name: _text(dtypes) for name, dtypes in definition.type_domains.items()}
    if (not domains and "values" in definition.input_spec.input_types) or op == "identity":
        domains["values"] = _ANY[0 if opset < "iOS17" else 1].split()
    if op == "einsum":
        domains["values"] = ["fp32", "fp16"]
    if not domains:
        domains["none"] = ["fixed"]
    return domains


def _variants():
    for op, opset, definition in _versions():
        if op in _OTHERS:
            continue
        for domain, dtypes in _domains(op, opset, definition).items():
            yield from (Variant(op, opset, domain, dtype) for dtype in dtypes)
        for (named, parameter), dtypes in _NAMED.items():
            if named == op and parameter in definition.input_spec.input_types:
                allowed = dtypes.split() if opset >= "iOS17" else ["fp16", "fp32", "int32", "bool"]
                yield from (Variant(op, opset, parameter, dtype) for dtype in allowed)


def _natural(dtypes):
    """fp32, which holds all values of the tables, or what comes nearest."""
    return next(d for d in ("fp32", "int32", "uint8", "bool", *dtypes) if d in dtypes)


def _arguments(op, opset, chosen):
    made = ARGUMENTS[op]
    if isinstance(made, dict) and set(made) <= set(OPSETS.values()):
        made = made[max(first for first in made if first <= opset)]
    return dict(made(chosen)) if callable(made) else dict(made)


def _numpy(value, dtype):
    from coremltools.converters.mil.mil import types

    builtin = types.string_to_builtin(dtype)
    return np.asarray(value).astype(types.nptype_from_builtin(builtin))[()]  # scalars as such


def _typed(variant, definition, chosen, through):
    """Arguments in the chosen dtypes, their values first cast to the dtypes of ``through``."""
    result = {}
    for name, value in _arguments(variant.op, variant.opset, chosen).items():
        parameter = definition.input_spec.input_types[name]
        domain = getattr(parameter, "type_domain_id", None)
        fixed = _text(getattr(parameter, "type_domain", ()))
        if domain is None and not fixed:
            domain = "values"
        if isinstance(value, str) or (domain is not None and domain not in chosen):
            result[name] = value
        elif domain is None:
            result[name] = _numpy(value, fixed[0])
        elif isinstance(value, tuple):
            result[name] = tuple(_numpy(_numpy(v, through[domain]), chosen[domain]) for v in value)
        else:
            result[name] = _numpy(_numpy(value, through[domain]), chosen[domain])
    if variant.domain in definition.input_spec.input_types and variant.domain != "values":
        result[variant.domain] = variant.dtype
    return result


def _declared(variant, arguments):
    """coremltools' types of the results; the first argument is no constant."""
    from coremltools.converters.mil.mil import Builder, Function, types
    from coremltools.converters.mil.mil.types.symbolic import is_symbolic

    def dtype_of(array):
        return types.numpy_type_to_builtin_type(array.dtype)

    first, value = next(iter(arguments.items()))
    given = {k: list(v) if isinstance(v, tuple) else v for k, v in arguments.items()}
    several = value if isinstance(value, tuple) else (value,)
    constant = variant.op.startswith("constexpr") or not all(np.asarray(v).ndim for v in several)
    inputs = {} if constant else {
        f"input{i}": Builder.placeholder(shape=v.shape, dtype=dtype_of(v))
        for i, v in enumerate(several)
    }  # fmt: skip
    target = getattr(coremltools().target, variant.opset)
    with Function(inputs, opset_version=target) as function:
        if not constant:
            variables = list(function.inputs.values())
            given[first] = variables if isinstance(value, tuple) else variables[0]
        results = getattr(Builder, variant.op)(**given)
    results = results if isinstance(results, list | tuple) else [results]
    return [
        TensorType(
            BY_NAME[types.builtin_to_string(r.dtype)],
            tuple(None if is_symbolic(n) else int(n) for n in r.shape),
        )
        for r in results
    ]


def _tensor(value):
    if isinstance(value, str):
        return value
    plain = np.asarray(value)
    if plain.dtype.metadata:  # types below eight bits are held in bytes
        plain = plain.astype(np.int8 if plain.dtype.kind == "i" else np.uint8)
    return torch.from_numpy(np.array(plain))


def _run(variant, arguments, declared):
    kernel = find(variant.op, variant.opset)
    scope, variables = {}, []
    for key, value in arguments.items():
        parts = value if isinstance(value, tuple) else (value,)
        names = tuple(Name(f"{key}.{i}") for i in range(len(parts)))
        scope.update(zip(names, map(_tensor, parts), strict=True))
        variables.append(Variable(key, kernel.parameters[key], names))
    outputs = tuple(NamedType(f"out{i}", declared) for i, declared in enumerate(declared))
    operation = Operation(variant.op, str(variant), {}, outputs)
    instruction = Instruction(operation, kernel, {}, tuple(variables))
    restart_stream()
    results = execute(instruction, dict(scope))
    _by_plan(instruction, scope, results)
    return results


def _by_plan(instruction, scope, results):
    """Later runs, which follow a plan, give the same results to the bit."""
    if any(not isinstance(value, torch.Tensor) for value in (*scope.values(), *results)):
        return
    inputs = tuple(NamedType(name, type_of(value)) for name, value in scope.items())
    names = tuple(Name(output.name) for output in instruction.operation.outputs)
    block = Block(inputs, (instruction,), names)
    mark_last_uses(block, is_function=True)
    for _ in range(3):
        restart_stream()
        for first, again in zip(results, run_function(block, dict(scope), None), strict=True):
            assert (first.dtype, first.shape) == (again.dtype, again.shape)
            assert first.numpy().tobytes() == again.numpy().tobytes()


def test_every_operation_has_arguments():
    assert {op for op, *_ in _versions()} == set(ARGUMENTS) | _OTHERS


@pytest.mark.parametrize("op", sorted(ARGUMENTS))
def test_every_dtype_of_its_definition(op):
    definitions = {(name, opset): definition for name, opset, definition in _versions()}
    ran = 0
    for variant in _variants():
        if variant.op != op:
            continue
        definition = definitions[variant.op, variant.opset]
        domains = _domains(variant.op, variant.opset, definition)
        natural = {domain: _natural(dtypes) for domain, dtypes in domains.items()}
        varied = {variant.domain, _TIED.get(variant.domain)} & set(domains)
        chosen = natural | dict.fromkeys(varied, variant.dtype)
        arguments = _typed(variant, definition, chosen, chosen)
        got = _run(variant, arguments, _declared(variant, arguments))
        reference = _typed(variant, definition, natural, chosen)
        if variant.domain in _INCOMPARABLE:
            reference = arguments
        want = _run(variant, reference, _declared(variant, reference))
        for a, b in zip(got, want, strict=True):
            _assert_equal(variant, a, b)
        ran += 1
    assert ran


def _assert_equal(variant, got, want):
    assert got.shape == want.shape, str(variant)
    if variant.op.startswith("random"):
        return  # numbers of a dtype: only their type is promised
    want = want.to(got.dtype).double().numpy()
    got, exact = got.double().numpy(), not got.is_floating_point()
    tolerance = 0 if exact else 4e-3
    np.testing.assert_allclose(got, want, tolerance, tolerance, err_msg=str(variant))


@pytest.mark.parametrize("dtype", _ANY[1].split())
def test_blocks_and_lists(dtype, tmp_path):
    """Values of every dtype pass through both kinds of blocks; lists take four dtypes."""

    def function(x):
        b = mb()
        first = b.cast(x=x, dtype=dtype)
        picked = b.cond(
            pred=b.greater(x=b.reduce_sum(x=x), y=np.float32(0)),
            _true_fn=lambda: b.identity(x=first), _false_fn=lambda: b.identity(x=first),
        )  # fmt: skip
        _, looped = b.while_loop(
            _cond=lambda i, v: b.less(x=i, y=2),
            _body=lambda i, v: (b.add(x=i, y=1), b.reverse(x=v, axes=[0])),
            loop_vars=(np.int32(0), picked),
        )
        outputs = [b.cast(x=looped, dtype="fp32")]
        if dtype in _ANY[0].split():
            ls = b.make_list(init_length=2, elem_shape=(2,), dtype=dtype)
            ls = b.list_write(ls=ls, index=1, value=looped)
            ls = b.list_scatter(ls=ls, indices=[0], value=b.expand_dims(x=looped, axes=[0]))
            outputs.append(b.cast(x=b.list_gather(ls=ls, indices=[1, 0]), dtype="fp32"))
            outputs.append(b.cast(x=b.list_read(ls=ls, index=0), dtype="fp32"))
        return tuple(outputs)

    program = Program.load(save(tmp_path / "m.mlpackage", function, "iOS17", x=spec(2)))
    for value in program.run({"x": np.array([1, 0], np.float32)}).values():
        np.testing.assert_array_equal(value, np.broadcast_to([1, 0], value.shape))


class Tables(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("table", torch.arange(20).reshape(10, 2) * 3000)

    def forward(self, x):
        index = x.long()
        return self.table[index], torch.gather(self.table, 0, index[:, None].expand(-1, 2))


def test_tables_that_upstream_stores_as_uint16(tmp_path):
    """``common::add_int16_cast`` stores integers from 0 to 65535 so, tables and indices."""
    ct = coremltools()
    x = torch.tensor([0, 3, 9, 2], dtype=torch.int32)
    model = ct.convert(
        torch.jit.trace(Tables(), x),
        inputs=[ct.TensorType("x", shape=(4,), dtype=np.int32)],
        minimum_deployment_target=ct.target.iOS17,
        skip_model_load=True,
    )
    model.save(str(tmp_path / "m.mlpackage"))
    assert "dataType: UINT16" in str(model.get_spec().mlProgram)
    program = Program.load(tmp_path / "m.mlpackage")
    for got, want in zip(program.run({"x": x.numpy()}).values(), Tables()(x), strict=True):
        np.testing.assert_array_equal(got, want.numpy())
