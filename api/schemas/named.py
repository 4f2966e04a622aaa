"""Schemas that are written out by hand and have a name."""

from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema


class NamedSchema:
    """Annotate a type whose values are checked elsewhere with a schema and its name."""

    def __init__(self, name: str, meaning: str, schema: dict[str, Any]) -> None:
        self._name, self._schema = name, {"description": meaning, **schema}

    def __get_pydantic_core_schema__(self, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        metadata = {"pydantic_js_functions": [self._describe]}
        return core_schema.any_schema(ref=f"api.schemas.named.{self._name}:{id(self)}", metadata=metadata)

    def _describe(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        reference = handler(schema)
        handler.resolve_ref_schema(reference).update(self._schema)
        return reference
