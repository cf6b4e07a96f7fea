"""Features and predictions of each client, as SQL that both warehouses run. Pure."""

from ingestd.snowflake.features.relations import NOW, RELATIONS, Relation, relations
from ingestd.snowflake.features.score import SCORE, Udf

__all__ = ["NOW", "RELATIONS", "SCORE", "Relation", "Udf", "relations"]
