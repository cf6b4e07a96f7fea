"""Features and predictions for each client, as SQL for Snowflake and the local warehouse. Pure."""

from ingestd.snowflake.features.relations import NOW, RECORD, RELATIONS, Relation, relations
from ingestd.snowflake.features.score import SCORE, Udf

__all__ = ["NOW", "RECORD", "RELATIONS", "SCORE", "Relation", "Udf", "relations"]
