"""All tables of a store, in the field's terms.

Foreign keys are declared for reading everywhere and are physical on PostgreSQL. On DuckDB tables
marked ``bulk`` carry no physical keys or indexes: rows enter through the staged merge, which admits
a key once, and ``gandb db verify`` checks every declared key and reference. The reason is measured:
a unique index makes a bulk insert four times as slow.

``content`` tables say what is known and are equal in two stores that did the same work;
``operational`` tables say how and when the work was done.
"""

from gandb.schema.checks import check_result, metric, recipe, structure_check
from gandb.schema.columns import metadata
from gandb.schema.datasets import (
    dataset,
    dataset_base,
    dataset_change,
    dataset_number,
    dataset_parent,
    dataset_tag,
    dataset_version,
)
from gandb.schema.energies import relaxation, stability
from gandb.schema.identity import (
    candidate_novelty,
    comparison,
    material_member,
    structure_key,
)
from gandb.schema.jobs import job, job_attempt, job_chunk, job_event, setting
from gandb.schema.materials import (
    composition,
    composition_element,
    entry,
    entry_alias,
    snapshot_entry,
    snapshot_file,
    snapshot_reject,
    source_snapshot,
)
from gandb.schema.models import (
    blob,
    candidate,
    candidate_record,
    checkpoint,
    generation_event,
    model,
)
from gandb.schema.sharing import access_token, bundle, publication, published, statement
from gandb.schema.structures import structure, structure_symmetry

__all__ = [
    "access_token",
    "blob",
    "bundle",
    "candidate",
    "candidate_novelty",
    "candidate_record",
    "check_result",
    "checkpoint",
    "comparison",
    "composition",
    "composition_element",
    "dataset",
    "dataset_base",
    "dataset_change",
    "dataset_number",
    "dataset_parent",
    "dataset_tag",
    "dataset_version",
    "entry",
    "entry_alias",
    "generation_event",
    "job",
    "job_attempt",
    "job_chunk",
    "job_event",
    "material_member",
    "metadata",
    "metric",
    "model",
    "publication",
    "published",
    "recipe",
    "relaxation",
    "setting",
    "snapshot_entry",
    "snapshot_file",
    "snapshot_reject",
    "source_snapshot",
    "stability",
    "statement",
    "structure",
    "structure_check",
    "structure_key",
    "structure_symmetry",
]
