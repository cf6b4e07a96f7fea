"""Snowflake's dialect read, DuckDB's written. Pure."""

import logging

import sqlglot
from sqlglot import ErrorLevel, exp
from sqlglot.errors import SqlglotError

from ingestd.config.model import SnowflakeConfig
from ingestd.core.errors import WarehouseError
from ingestd.snowflake.features import NOW

MAX_SQL = 64 << 10  # characters

_COMPARISONS = (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Like, exp.ILike, exp.In)

# What it cannot write it tells twice, by its logger and by an error.
logging.getLogger("sqlglot").setLevel(logging.CRITICAL)


class Dialect:
    """Translates for one database and schema, whose names are left out: the local file has one of each."""

    def __init__(self, snowflake: SnowflakeConfig, now: str = NOW) -> None:
        """`now` is an expression in Snowflake's dialect that stands for its clocks."""
        self._home = (snowflake.database.upper(), snowflake.schema.upper())
        self._now = sqlglot.parse_one(now, read="snowflake")

    def query(self, sql: str) -> str:
        """One statement that reads. WarehouseError for any other, and for what has no translation."""
        found = self._parsed(sql)
        if not isinstance(found, exp.Query) or found.find(exp.Into):
            raise WarehouseError("this is no query", hint="give one SELECT; nothing can be changed here")
        return self._written(self._translated(_named(found)))

    def select(self, sql: str) -> str:
        """The text of a view."""
        return self._written(self._translated(self._parsed(sql)))

    def table(self, sql: str) -> str:
        """A CREATE TABLE; its comments are left out, and its lengths are not enforced."""
        return self._translated(self._parsed(sql)).sql("duckdb", unsupported_level=ErrorLevel.IGNORE)

    def expression(self, sql: str) -> str:
        """Part of a statement, such as a function's body."""
        return self._written(self._translated(sqlglot.parse_one(sql, read="snowflake")))

    def type(self, name: str) -> str:
        """A column's type."""
        return _plain(exp.DataType.build(name, dialect="snowflake")).sql("duckdb")

    def _parsed(self, sql: str) -> exp.Expr:
        if len(sql) > MAX_SQL:
            raise WarehouseError(f"the statement has more than {MAX_SQL} characters")
        try:
            found = [it for it in sqlglot.parse(sql, read="snowflake") if it is not None]
        except SqlglotError as error:
            raise WarehouseError(f"cannot read the statement: {_first_line(error)}") from error
        except RecursionError:
            raise WarehouseError("the statement is nested too deeply") from None
        if len(found) != 1:
            raise WarehouseError(f"expected one statement, not {len(found)}")
        return found[0]

    def _translated(self, statement: exp.Expr) -> exp.Expr:
        # The inner ones first: what is replaced takes them along as they have become.
        for node in reversed(list(statement.walk())):
            other = self._replaced(node)
            if other is not node:
                statement = other if node is statement else statement
                node.replace(other)
        return statement

    def _replaced(self, node: exp.Expr) -> exp.Expr:
        match node:
            case exp.Table() if node.db and self._is_home(node):
                node.set("db", None)
                node.set("catalog", None)
            case exp.DataType():
                return _plain(node)
            # With a zone it is DuckDB's own; ours has none, as event_timestamp.
            case exp.CurrentTimestamp() | exp.Localtimestamp() | exp.CurrentDatetime():
                return node if _has_zone(node) else self._now.copy()
            case exp.CurrentDate():
                return exp.cast(self._now.copy(), "date")
            # DuckDB's is NULL where there is no row.
            case exp.CountIf() if not isinstance(node.parent, exp.Window):
                return exp.Coalesce(this=node.copy(), expressions=[exp.Literal.number(0)])
            case exp.JSONExtract() | exp.Bracket():
                return _value_at(node)
        return node

    def _is_home(self, table: exp.Table) -> bool:
        database, schema = self._home
        return table.db.upper() == schema and table.catalog.upper() in {"", database}

    def _written(self, statement: exp.Expr) -> str:
        try:
            return statement.sql("duckdb", unsupported_level=ErrorLevel.RAISE)
        except SqlglotError as error:
            raise WarehouseError(f"the local warehouse does not speak this: {_first_line(error)}") from error
        except RecursionError:
            raise WarehouseError("the statement is nested too deeply") from None


def _has_zone(node: exp.Expr) -> bool:
    return isinstance(node.parent, exp.ConvertTimezone)


def _plain(kind: exp.DataType) -> exp.DataType:
    """VARIANT is kept as JSON: a VARIANT of DuckDB does not take a path."""
    return exp.DataType.build("json") if kind.is_type("variant") else kind


def _value_at(node: exp.JSONExtract | exp.Bracket) -> exp.Expr:
    """A path, or a key in brackets, which is another way to write one."""
    match node:
        case exp.JSONExtract():
            return _unwrapped(node, node.parent)
        case exp.Bracket(expressions=[exp.Literal(is_string=True) as key]):
            path = exp.JSONPath(expressions=[exp.JSONPathRoot(), exp.JSONPathKey(this=key.name)])
            return _unwrapped(exp.JSONExtract(this=node.this, expression=path), node.parent)
    return node


def _unwrapped(path: exp.JSONExtract, parent: exp.Expr | None) -> exp.Expr:
    """A path as the value itself where it is cast or compared: of JSON, a text has quotes around it."""
    scalar = exp.JSONExtractScalar(this=path.this, expression=path.expression)
    if isinstance(parent, exp.Cast) and not parent.to.is_type("variant", "json"):
        return scalar
    if isinstance(parent, _COMPARISONS):
        others = [parent.this, parent.expression, *parent.expressions]
        if any(isinstance(it, exp.Literal) and not it.is_string for it in others):
            return exp.TryCast(this=scalar, to=exp.DataType.build("double"))
        return scalar
    return path


def _named(query: exp.Query) -> exp.Query:
    """Columns without a name get what stands there, as Snowflake has it."""
    if isinstance(query, exp.Select):
        for column in query.expressions:
            if not isinstance(column, exp.Alias | exp.Column | exp.Star) and not column.output_name:
                column.replace(exp.alias_(column.copy(), column.sql("snowflake"), quoted=True))
    return query


def _first_line(error: Exception) -> str:
    text = str(error).splitlines()
    return text[0] if text else type(error).__name__
