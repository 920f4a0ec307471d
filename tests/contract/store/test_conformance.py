"""The Store port's suite over every engine that ships."""

from pathlib import Path

import pytest

from steelyard.adapters.objectstore.store import ObjectStore
from steelyard.core.ports import Store
from steelyard.registry.store import FolderStore
from steelyard.testing.store import StoreConformance


class TestFolderStore(StoreConformance):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return FolderStore(tmp_path / "deep" / "store")


class TestMemory(StoreConformance):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        pytest.importorskip("obstore", reason="obstore is not installed (extra objectstore)")
        return ObjectStore("memory:///", tmp_path / "cache")


class TestS3(StoreConformance):
    @pytest.fixture
    def store(self, bucket: str, tmp_path: Path) -> Store:
        return ObjectStore(bucket, tmp_path / "cache")
