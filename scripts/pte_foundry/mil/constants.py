"""A function's constants while it is built: read when they are needed, told apart by content."""

from collections.abc import Callable, Hashable, Mapping
from hashlib import sha256

from pte_foundry.mil.values import Constant
from pte_foundry.upstream.coremltools_protobuf import MIL_pb2


class Known:
    """A constant by name, read when it is first needed; the same ``key`` means the same content."""

    def __init__(self, key: Hashable, read: Callable[[], Constant]):
        self.key = key
        self._read = read
        self._value: Constant | None = None

    def get(self) -> Constant:
        if self._value is None:
            self._value = self._read()
        return self._value


def digest(spec: MIL_pb2.Value) -> bytes:
    """Of a value as it is written: for weights, where they lie in the file."""
    return sha256(spec.SerializeToString(deterministic=True)).digest()


def key_of(spec: MIL_pb2.Operation, opset: str, constants: Mapping[str, Known]) -> Hashable:
    """The same for operations that compute the same from the same constants."""
    literals = {key: digest(value) for key, value in spec.attributes.items() if key != "name"}
    arguments = {
        key: tuple(_argument(binding, constants) for binding in argument.arguments)
        for key, argument in spec.inputs.items()
    }
    return spec.type, opset, *sorted(literals.items()), *sorted(arguments.items())


def _argument(binding: MIL_pb2.Argument.Binding, constants: Mapping[str, Known]) -> Hashable:
    if binding.WhichOneof("binding") != "name":
        return digest(binding.value)
    return constants[binding.name].key if binding.name in constants else binding.name
