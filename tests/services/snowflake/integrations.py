"""A simulation of integrations: what CREATE was told is what DESC answers, in the form that is documented.

No answer was recorded on a real account.
"""

import re

_CREATE = re.compile(
    r"\s*CREATE\s+(?P<kind>STORAGE|NOTIFICATION)\s+INTEGRATION\s+IF\s+NOT\s+EXISTS\s+(?P<name>\w+)(?P<options>.*)",
    re.IGNORECASE | re.DOTALL,
)
_DESCRIBE = re.compile(r"\s*DESC(RIBE)?\s+(STORAGE\s+|NOTIFICATION\s+)?INTEGRATION\s+(?P<name>\w+)", re.IGNORECASE)
_OPTION = re.compile(r"(\w+)\s*=\s*(\([^)]*\)|'[^']*'|\w+)")
_USER = "arn:aws:iam::999999999999:user/standin-{kind}"
_IDENTITY = {
    "STORAGE": ("STORAGE_AWS_IAM_USER_ARN", "STORAGE_AWS_EXTERNAL_ID"),
    "NOTIFICATION": ("SF_AWS_IAM_USER_ARN", "SF_AWS_EXTERNAL_ID"),
}


class Integrations:
    """Those of one server, by name in upper case; each has its properties."""

    def __init__(self) -> None:
        self.properties: dict[str, dict[str, str]] = {}

    def answer(self, sql: str) -> str | None:
        """A SELECT that gives the answer; None where `sql` is about something else. LookupError: there is none such."""
        if match := _CREATE.match(sql):
            name = match["name"].upper()
            self.properties.setdefault(name, self._made(match["kind"].upper(), name, match["options"]))
            return f"SELECT 'Integration {name} successfully created.' AS \"status\""
        if match := _DESCRIBE.match(sql):
            name = match["name"].upper()
            if name not in self.properties:
                raise LookupError(f"Integration '{name}' does not exist or not authorized.")
            rows = self.properties[name].items()
            return " UNION ALL ".join(
                f"SELECT '{key}' AS \"property\", 'String' AS \"property_type\", '{value}' AS \"property_value\", "
                f"'' AS \"property_default\""
                for key, value in rows
            )
        return None

    def _made(self, kind: str, name: str, options: str) -> dict[str, str]:
        found = {}
        for key, value in _OPTION.findall(options):
            found[key.upper()] = ",".join(it.strip().strip("'") for it in value.strip("()").split(","))
        user, external_id = _IDENTITY[kind]
        return found | {user: _USER.format(kind=kind.lower()), external_id: f"STANDIN_SFCRole={name}"}
