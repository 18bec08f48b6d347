"""The registry: every model, backbone and data set that is declared, found by name."""

from zoo.registry.lookup import Registry, list_entries, load_registry
from zoo.registry.schema import Backbone, Claim, DatasetDeclaration, Entry, RemoteFile

__all__ = [
    "Backbone",
    "Claim",
    "DatasetDeclaration",
    "Entry",
    "Registry",
    "RemoteFile",
    "list_entries",
    "load_registry",
]
