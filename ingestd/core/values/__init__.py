"""Formats of values other than JSON: each becomes JSON text before validation. Pure.

Protobuf's libraries are imported where a schema is compiled: a daemon that reads JSON or Avro needs none of them.
"""
