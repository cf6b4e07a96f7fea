"""Translates SQL from Snowflake's dialect to DuckDB's. Pure."""

import re

import sqlglot
from sqlglot import ErrorLevel, exp
from sqlglot.errors import ParseError, SqlglotError

from ingestd.config.model import SnowflakeConfig
from ingestd.core.errors import WarehouseError
from ingestd.snowflake.features import NOW

MAX_SQL = 64 << 10  # characters

_JSON_OR_LIST = (exp.Column, exp.JSONExtract)
_COMPARISONS = (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Like, exp.ILike, exp.In)


class Dialect:
    """Translates statements, and drops the configured database and schema: the local file has one of each."""

    def __init__(self, snowflake: SnowflakeConfig, now: str = NOW) -> None:
        """`now` is the expression in Snowflake's dialect that replaces its clock functions."""
        self._home = (snowflake.database.upper(), snowflake.schema.upper())
        self._now = sqlglot.parse_one(now, read="snowflake")

    def query(self, sql: str) -> str:
        """Translates one SELECT. WarehouseError for any other statement, and for one without a translation."""
        found = self._parse(sql)
        if not isinstance(found, exp.Query) or found.find(exp.Into):
            raise WarehouseError("not a query", hint="give one SELECT: the warehouse is read-only")
        return self._write(self._translate(_name_columns(found)))

    def select(self, sql: str) -> str:
        """Translates the SELECT of a view."""
        return self._write(self._translate(self._parse(sql)))

    def table(self, sql: str) -> str:
        """Translates a CREATE TABLE, without its comments and the lengths of its types."""
        return self._translate(self._parse(sql)).sql("duckdb", unsupported_level=ErrorLevel.IGNORE)

    def expression(self, sql: str) -> str:
        """Translates an expression, such as a function's body."""
        return self._write(self._translate(sqlglot.parse_one(sql, read="snowflake")))

    def type(self, name: str) -> str:
        """Translates a column's type."""
        return _json_for_variant(exp.DataType.build(name, dialect="snowflake")).sql("duckdb")

    def _parse(self, sql: str) -> exp.Expr:
        if len(sql) > MAX_SQL:
            raise WarehouseError(f"the statement has more than {MAX_SQL} characters")
        try:
            found = [it for it in sqlglot.parse(sql, read="snowflake") if it is not None]
        except SqlglotError as error:
            raise WarehouseError(f"cannot read the statement: {_syntax_error(error)}") from error
        except RecursionError:
            raise WarehouseError("the statement is nested too deeply") from None
        if len(found) != 1:
            raise WarehouseError(f"expected one statement, not {len(found)}")
        return found[0]

    def _translate(self, statement: exp.Expr) -> exp.Expr:
        # Inner nodes first, so that a replaced node contains its translated children.
        for node in reversed(list(statement.walk())):
            replacement = self._replacement(node)
            if replacement is not node:
                statement = replacement if node is statement else statement
                node.replace(replacement)
        return statement

    def _replacement(self, node: exp.Expr) -> exp.Expr:
        match node:
            case exp.Table() if node.db and self._is_home(node):
                node.set("db", None)
                node.set("catalog", None)
            case exp.DataType():
                return _json_for_variant(node)
            # With a time zone, DuckDB's clock is used; the replacement has none, like event_timestamp.
            case exp.CurrentTimestamp() | exp.Localtimestamp() | exp.CurrentDatetime():
                return node if _has_zone(node) else self._now.copy()
            case exp.CurrentDate():
                return exp.cast(self._now.copy(), "date")
            # Without rows DuckDB's COUNT_IF returns NULL, Snowflake's 0.
            case exp.CountIf() if not isinstance(node.parent, exp.Window):
                return exp.Coalesce(this=node.copy(), expressions=[exp.Literal.number(0)])
            case exp.JSONExtract() | exp.Bracket():
                return _value_at(node)
        return node

    def _is_home(self, table: exp.Table) -> bool:
        database, schema = self._home
        return table.db.upper() == schema and table.catalog.upper() in {"", database}

    def _write(self, statement: exp.Expr) -> str:
        try:
            return statement.sql("duckdb", unsupported_level=ErrorLevel.RAISE)
        except SqlglotError as error:
            raise WarehouseError(f"the local warehouse does not support this: {_first_line(error)}") from error
        except RecursionError:
            raise WarehouseError("the statement is nested too deeply") from None


def duckdb_name(name: str) -> str:
    """A column's name in DuckDB's own SQL, which reserves other words than Snowflake's; case does not matter to it."""
    return '"' + name.replace('"', '""') + '"'


def _has_zone(node: exp.Expr) -> bool:
    return isinstance(node.parent, exp.ConvertTimezone)


def _json_for_variant(kind: exp.DataType) -> exp.DataType:
    """Replaces VARIANT with JSON: DuckDB's VARIANT does not support paths."""
    return exp.DataType.build("json") if kind.is_type("variant") else kind


def _value_at(node: exp.JSONExtract | exp.Bracket) -> exp.Expr:
    """Translates a path into a JSON value, written as value:path, value['key'] or value[0]."""
    match node:
        case exp.JSONExtract():
            return _unquote(node, node.parent)
        case exp.Bracket(expressions=[exp.Literal(is_string=True) as key]):
            path = exp.JSONPath(expressions=[exp.JSONPathRoot(), exp.JSONPathKey(this=key.name)])
            return _unquote(exp.JSONExtract(this=node.this, expression=path), node.parent)
        # DuckDB counts from 1 in a list, and from 0 in JSON; a column may be either.
        case exp.Bracket(expressions=[exp.Literal(is_int=True) as at]) if isinstance(node.this, _JSON_OR_LIST):
            path = exp.JSONPath(expressions=[exp.JSONPathRoot(), exp.JSONPathSubscript(this=int(at.name))])
            value = exp.Anonymous(this="to_json", expressions=[node.this])
            return _unquote(exp.JSONExtract(this=value, expression=path), node.parent)
    return node


def _unquote(path: exp.JSONExtract, parent: exp.Expr | None) -> exp.Expr:
    """Extracts the scalar where the value is cast or compared: JSON text has quotes around it."""
    scalar = exp.JSONExtractScalar(this=path.this, expression=path.expression)
    if isinstance(parent, exp.Cast) and not parent.to.is_type("variant", "json"):
        return scalar
    if isinstance(parent, _COMPARISONS):
        others = [parent.this, parent.expression, *parent.expressions]
        if any(isinstance(it, exp.Literal) and not it.is_string for it in others):
            return exp.TryCast(this=scalar, to=exp.DataType.build("double"))
        return scalar
    return path


def _name_columns(query: exp.Query) -> exp.Query:
    """Names each unnamed column after its expression, as Snowflake does."""
    if isinstance(query, exp.Select):
        for column in query.expressions:
            if not isinstance(column, exp.Alias | exp.Column | exp.Star) and not column.output_name:
                column.replace(exp.alias_(column.copy(), column.sql("snowflake"), quoted=True))
    return query


def _syntax_error(error: SqlglotError) -> str:
    """Where a statement is wrong and what is wrong there, without names of sqlglot's classes."""
    if not (isinstance(error, ParseError) and error.errors):
        return _first_line(error)
    first = error.errors[0]
    token, what = first["highlight"], re.sub(r" but got <.*", "", first["description"], flags=re.DOTALL)
    if what.startswith("Required keyword"):
        what = "something is missing here"
    # sqlglot gives the column where the token ends.
    return f"line {first['line']}, column {max(1, first['col'] - len(token) + 1)}, at {token!r}: {what}"


def _first_line(error: Exception) -> str:
    text = str(error).splitlines()
    return text[0] if text else type(error).__name__
