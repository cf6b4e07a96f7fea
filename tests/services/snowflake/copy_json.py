"""Teaches fakesnow what its COPY INTO lacks: s3:// stages, and a SELECT over JSON lines with a load's metadata."""

from typing import Any

import fakesnow.copy_into as theirs
import s3fs
from fakesnow import instance
from sqlglot import exp, parse_one

_files: list[Any] = []  # the one file system
_ROW = exp.Parameter(this=exp.Literal(this="1", is_string=False))  # $1


def install(endpoint: str, access_key: str, secret_key: str) -> None:
    """Change fakesnow for the rest of this process."""
    connect = instance.FakeSnow.__init__

    def with_s3(self: Any, *arguments: Any, **options: Any) -> None:
        connect(self, *arguments, **options)
        files = s3fs.S3FileSystem(
            key=access_key,
            secret=secret_key,
            endpoint_url=endpoint,
            use_listings_cache=False,
            config_kwargs={"s3": {"addressing_style": "path"}},
        )
        # DuckDB's own S3 client is an extension that is fetched at run time.
        self.duck_conn.register_filesystem(files)
        _files.append(files)

    instance.FakeSnow.__init__ = with_s3
    theirs.ReadJSON.read_expression = _read_lines
    theirs._inserts = _inserts
    theirs._params = _params_with_json
    theirs._source_glob = lambda source, _connection: listed(source)


def listed(prefix: str) -> list[str]:
    """The URLs that begin with a URL."""
    bucket, _, path = prefix.removeprefix("s3://").partition("/")
    found = _files[-1].find(f"{bucket}/{path.rpartition('/')[0]}")
    return [f"s3://{name}" for name in sorted(found) if f"s3://{name}".startswith(prefix)]


def path_of(url: str) -> str:
    """What METADATA$FILENAME gives: the key in the bucket."""
    return url.split("://", 1)[-1].split("/", 1)[-1]


def _read_lines(self: Any, url: str) -> exp.Func:
    options = {"format": exp.Literal.string("newline_delimited"), "hive_partitioning": exp.false()}
    arguments = [exp.EQ(this=exp.column(name), expression=value) for name, value in options.items()]
    return exp.func("read_json_objects", exp.Literal.string(url), *arguments)


_their_params = theirs._params


def _params_with_json(expression: exp.Copy, *arguments: Any, **options: Any) -> Any:
    """JSON where the statement names no format: fakesnow does not look at the stage's. A pipe skips by itself."""
    kept = [it for it in expression.args.get("params", []) if it.this.name.upper() != "ON_ERROR"]
    named = any(it.this.name.upper() == "FILE_FORMAT" for it in kept)
    expression.set("params", kept)
    found = _their_params(expression, *arguments, **options)
    if not named:
        found.file_format = theirs.ReadJSON()
    return found


_their_inserts = theirs._inserts


def _inserts(expression: exp.Copy, params: Any, urls: list[str], parquet: Any = None) -> list[exp.Expression]:
    select = expression.args["files"][0]
    if not isinstance(params.file_format, theirs.ReadJSON) or not isinstance(select, exp.Subquery):
        found: list[exp.Expression] = _their_inserts(expression, params, urls, parquet)
        return found
    return [
        exp.Insert(
            this=expression.this,
            expression=exp.Select(expressions=_values(select, url)).from_(
                exp.Table(this=params.file_format.read_expression(url))
            ),
            by_name=False,
        )
        for url in urls
    ]


def _values(subquery: exp.Subquery, url: str) -> list[exp.Expression]:
    """The SELECT's expressions over DuckDB's rows of one file."""
    select = subquery.this.copy()
    for cast in list(select.find_all(exp.Cast, exp.TryCast)):
        if isinstance(cast.this, exp.JSONExtract):
            cast.set("this", exp.JSONExtractScalar(**cast.this.args))
    metadata = {
        "METADATA$FILENAME": exp.Literal.string(path_of(url)),
        "METADATA$FILE_ROW_NUMBER": parse_one("row_number() over ()"),
        "METADATA$START_SCAN_TIME": parse_one("current_timestamp::timestamp", dialect="duckdb"),
    }
    for column in list(select.find_all(exp.Column)):
        if (value := metadata.get(column.name.upper())) is not None:
            column.replace(value.copy())
    for parameter in list(select.find_all(exp.Parameter)):
        if parameter == _ROW:
            parameter.replace(exp.column("json"))
    return list(select.expressions)
