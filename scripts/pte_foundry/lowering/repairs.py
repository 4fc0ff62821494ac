"""All repairs of Core ML's converter, at once."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from pte_foundry.upstream.coremltools_batchnorm_pass import sound_batch_norms
from pte_foundry.upstream.coremltools_complex_views import converted_complex_views
from pte_foundry.upstream.coremltools_constant_comparison import compared_in_pieces
from pte_foundry.upstream.coremltools_default_arguments import completed_arguments
from pte_foundry.upstream.coremltools_division import whole_divisions
from pte_foundry.upstream.coremltools_gelu import approximated_gelu
from pte_foundry.upstream.coremltools_index_put import several_places
from pte_foundry.upstream.coremltools_int16_pass import kept_integers
from pte_foundry.upstream.coremltools_lstm import whole_lstms
from pte_foundry.upstream.coremltools_noop_pass import kept_floors
from pte_foundry.upstream.coremltools_pair_elimination import sound_pair_elimination
from pte_foundry.upstream.coremltools_reshape_pass import sound_reshapes
from pte_foundry.upstream.coremltools_state_shapes import shaped_states
from pte_foundry.upstream.coremltools_twin_outputs import single_outputs
from pte_foundry.upstream.executorch_enumerated_dtypes import enumerated_int64

REPAIRS = (
    approximated_gelu,
    compared_in_pieces,
    completed_arguments,
    converted_complex_views,
    enumerated_int64,
    kept_floors,
    kept_integers,
    several_places,
    shaped_states,
    single_outputs,
    sound_batch_norms,
    sound_pair_elimination,
    sound_reshapes,
    whole_divisions,
    whole_lstms,
)


@contextmanager
def repaired() -> Iterator[None]:
    """Within this context Core ML programs are converted with every repair of upstream."""
    with ExitStack() as stack:
        for repair in REPAIRS:
            stack.enter_context(repair())
        yield
