"""How to read labelled texts. It travels wherever the path of a dataset travels."""

from typing import Literal

from pydantic import Field

from workers.agent.protocol.common import Message

# Bytes of one data file, also when it is decompressed. The deployment's largest upload replaces it.
LARGEST_FILE = 2_000_000_000


class DataFormat(Message):
    """The fields of a row, the names of the classes, and the treatment of bad rows."""

    text_field: str = "text"
    label_field: str | None = Field(None, description="None: the first of sentiment, label, labels and category.")
    label_names: list[str] | dict[str, str] | None = Field(None, description="Class names by number or by label.")
    on_bad_rows: Literal["refuse", "skip"] = "refuse"
