"""A simulation of what derives from a table: a dynamic table is a view here, always fresh, and a function a macro."""

import re
from typing import Any

import sqlglot

_TABLE = re.compile(
    r"\s*CREATE\s+OR\s+REPLACE\s+DYNAMIC\s+TABLE\s+(?P<name>[\w.$]+)"
    r"\s+TARGET_LAG\s*=\s*'[^']+'\s+WAREHOUSE\s*=\s*\w+\s+REFRESH_MODE\s*=\s*\w+\s+AS\s+(?P<query>.*)",
    re.IGNORECASE | re.DOTALL,
)
_FUNCTION = re.compile(
    r"\s*CREATE\s+OR\s+REPLACE\s+FUNCTION\s+(?P<name>[\w.$]+)\s*\((?P<arguments>.*?)\)"
    r"\s+RETURNS\s+\w+\s+IMMUTABLE\s+AS\s+\$\$(?P<body>.*)\$\$",
    re.IGNORECASE | re.DOTALL,
)


def answer(sql: str, database: Any) -> str | None:
    """Another statement that fakesnow can run in place of `sql`; None where it is about something else."""
    if match := _TABLE.match(sql):
        return f"CREATE OR REPLACE VIEW {match['name']} AS {match['query']}"
    if match := _FUNCTION.match(sql):
        names = ", ".join(argument.split()[0] for argument in match["arguments"].split(","))
        [body] = sqlglot.transpile(match["body"], read="snowflake", write="duckdb")
        database.execute(f"CREATE OR REPLACE MACRO {match['name']}({names}) AS ({body})")
        return "SELECT 'Function successfully created.' AS \"status\""
    return None
