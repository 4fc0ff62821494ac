"""Reports a storage that stops answering with a message instead of a traceback.

Stands against: snakemake 9.27.1, snakemake-interface-storage-plugins 4.4.1
Repairs: ``managed_mtime``, ``managed_size`` and ``managed_checksum`` of ``StorageObjectRead``
    (``storage_object.py``). After an error they look whether the object exists, with the same
    server, so that the error of this second question ends Snakemake with a traceback.
Remove when: they tell the first error, as the test shows.
"""

from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_storage_plugins.exceptions import FileOrDirectoryNotFoundError
from snakemake_interface_storage_plugins.storage_object import StorageObjectRead

from pte_foundry.upstream.versions import require

_NAME = "_raise_object_not_found_if_not_exists"
_upstream = require(StorageObjectRead, _NAME, "self", patch=__name__)


def tell_storage_errors() -> None:
    """Make errors of a storage ones that Snakemake tells without a traceback."""
    setattr(StorageObjectRead, _NAME, _look)


def _look(self: StorageObjectRead) -> None:
    try:
        _upstream(self)
    except FileOrDirectoryNotFoundError:
        raise
    except Exception as error:
        raise WorkflowError(f"Failed to check existence of {self.print_query}", error) from error
