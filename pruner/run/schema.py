"""``python -m pruner.run.schema``: the JSON schema of a configuration file, for editors."""

import json

from pydantic import TypeAdapter

from .config import Config


def schema_text() -> str:
    """Return what docs/config.schema.json holds."""
    schema = TypeAdapter(Config).json_schema()
    schema["properties"]["budget"] = {"description": "one budget", "type": "string"}
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(schema_text(), end="")
