"""A storage plugin that keeps its objects in a folder, as the plugin interface asks."""

import shutil
from pathlib import Path

from pte_foundry.upstream.snakemake_storage import Storage


class Object:
    def __init__(self, provider, query: str) -> None:
        self.provider, self.query, self.print_query = provider, query, query
        self.path = provider.folder / query.removeprefix("mem://")
        self.copy = provider.copies / query.removeprefix("mem://")

    def local_path(self) -> Path:
        return self.copy

    def set_local_path(self, path: Path) -> None:
        self.copy = path

    def exists(self) -> bool:
        if self.provider.down:
            raise ConnectionError("no route to host")
        return self.path.exists()

    def mtime(self) -> float:
        return self.path.stat().st_mtime

    def size(self) -> int:
        return self.path.stat().st_size

    def retrieve_object(self) -> None:
        shutil.copyfile(self.path, self.local_path())

    def store_object(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.local_path(), self.path)

    def remove(self) -> None:
        self.path.unlink()

    async def managed_exists(self) -> bool:
        return self.exists()

    async def managed_retrieve(self) -> None:
        self.retrieve_object()

    async def managed_store(self) -> None:
        self.store_object()


class Provider:
    down = False

    def __init__(self, folder: Path, copies: Path) -> None:
        self.folder, self.copies = folder, copies

    def object(self, query: str) -> Object:
        return Object(self, query)

    def is_valid_query(self, query: str) -> bool:
        return query.startswith("mem://")


def storage_in(
    buckets: Path, copies: Path, prefix: str = "mem://bucket/run", folder: Path = Path()
) -> Storage:
    """A storage whose objects are in ``buckets``, with its local copies in ``copies``."""
    return Storage(Provider(buckets, copies), prefix, folder)
