"""Closed sets of words, and open lists.

Each has a name, a meaning and its words. openapi.json has it as one named schema, to which requests
and answers refer.
"""

from collections.abc import Iterable
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema


class Words:
    """Annotate a `Literal`, or a `str` with the words, as a named enumeration.

    `str` is for words that a table has already, such as the statuses in a table of legal moves.
    """

    def __init__(self, name: str, meaning: str, words: Iterable[str] = ()) -> None:
        self.name, self.meaning, self.words = name, meaning, tuple(words)

    def __get_pydantic_core_schema__(self, source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.literal_schema([*(self.words or get_args(source))], ref=self._reference, metadata=self._metadata)

    @property
    def _reference(self) -> str:
        """The reference makes pydantic write the schema once, under the last part of its name."""
        return f"api.domain.words.{self.name}:{id(self)}"

    @property
    def _metadata(self) -> dict[str, Any]:
        return {"pydantic_js_functions": [self._describe]}

    def _describe(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        reference = handler(schema)
        handler.resolve_ref_schema(reference).update(self._facts())
        return reference

    def _facts(self) -> dict[str, Any]:
        return {"description": self.meaning}


class OpenWords(Words):
    """Annotate a `str` as a word of an open list: a new version may have new words."""

    def __get_pydantic_core_schema__(self, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.str_schema(ref=self._reference, metadata=self._metadata)

    def _facts(self) -> dict[str, Any]:
        return {"description": self.meaning, "examples": [*self.words]}


def words_of(annotation: Any) -> tuple[Any, ...]:
    """Return the words of a set."""
    literal, *rest = get_args(annotation) if get_origin(annotation) is Annotated else (annotation,)
    listed = get_args(literal) if get_origin(literal) is Literal else ()
    return next((part.words for part in rest if isinstance(part, Words) and part.words), listed)
