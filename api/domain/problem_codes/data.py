"""Codes of data that cannot be trained on or predicted."""

from collections.abc import Mapping
from typing import Final

_CHECK: Final = "`flow-nexus data check` finds it in a local file. Correct the file and upload it again."

CODES: Final[Mapping[str, tuple[str, str]]] = {
    "no_match": ("No file matches the path.", "Upload the files, or correct the path."),
    "empty": ("The files hold no samples.", "Upload files with samples."),
    "unreadable_file": ("A file cannot be read.", _CHECK),
    "unreadable_input": ("The input of the prediction cannot be read.", _CHECK),
    "unreadable_json": ("A file is not valid JSON.", _CHECK),
    "unreadable_table": ("A row of a table cannot be read.", "Put texts that hold a separator in quotes."),
    "missing_text": ("A row has no text.", "Name its field in `text_field`, or set `on_bad_rows` to skip."),
    "unlabelled": ("A row has no label.", "Name its field in `label_field`, or set `on_bad_rows` to skip."),
    "label_too_long": ("A label is too long for a class name.", "Name the field with the labels in `label_field`."),
    "ambiguous_label_field": ("The file has several fields that could be the label.", "Name one in `label_field`."),
    "unknown_label": ("The data has a label that is no class of the training.", "Correct the labels, or `label_names`."),
    "labels_changed": ("The data has other labels than at the first check.", "Start a new training."),
    "single_class": ("All samples have the same label.", "Use data with at least two classes."),
    "too_many_classes": ("The data has too many different labels.", "Check that `label_field` is the right field."),
    "too_few_samples": ("A shard has too few samples.", "Upload more samples to the node that `detail` names."),
    "file_too_large": ("A file is larger than the agent may read.", "Split the file."),
    "not_enough_disk": ("The sandbox has too little disk for the token ids.", "Use less data for the node."),
    "not_enough_memory": ("The sandbox has too little memory for the data.", "Use less data for the node."),
    "dataset_changed": ("The files changed while they were read.", "Do not upload during a check. Try again."),
    "shard_changed": ("The shard changed after its privacy plan was made.", "Stop and resume the training to plan anew."),
    "input_changed": ("The input file changed after the prediction was accepted.", "Start the prediction again."),
    "nothing_to_measure_on": (
        "No data is left to measure the model on, and an option needs the figure.",
        "Upload a validation file, or drop the option.",
    ),
    "path_not_allowed": ("The path leads outside the sandbox's folders.", "Choose a path below `/data`."),
}
