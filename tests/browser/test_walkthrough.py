"""The whole walkthrough by mouse, on the real stack, with a training that is watched live."""

import json
import os
import re
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from api.cli.commands.dashboard import dashboard_link
from api.embedded.stack import EmbeddedStack
from tests.browser.conftest import OpenPage, go, picture, save
from tests.e2e.walk import Walk, samples

_DROP = """([content, name]) => {
  const dropped = new DataTransfer();
  dropped.items.add(new File([content], name));
  return dropped;
}"""


@pytest.mark.timeout(900)
def test_the_walkthrough_by_mouse(stack: EmbeddedStack, open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page(dashboard_link(stack.url, stack.api_key), width=1440)
    walk = Walk(stack.url, stack.api_key)
    cluster_id = _create(page, stack)
    try:
        _deploy(page, "worker", "worker", "parameter_server")
        _connect(page)
        _upload(page, tmp_path)
        training_id = _train_and_watch(page)
        _stop_and_resume(page, walk, training_id)
        _predict(page)
        _export_and_download(page, tmp_path)
        go(page, f"/clusters/{cluster_id}")
        picture(page, "walkthrough-cluster", theme="dark")
        _terminate(page, cluster_id, walk)
    finally:
        walk.terminate(cluster_id)


def _click(page: Any, name: str) -> None:
    page.locator("main").get_by_role("button", name=name, exact=True).first.click()


def _submit(page: Any) -> None:
    """Send the open dialog, and wait until it has closed."""
    page.locator("dialog footer button.primary").click()
    page.wait_for_selector("dialog", state="detached")


def _create(page: Any, stack: EmbeddedStack) -> str:
    page.get_by_role("navigation", name="Pages").get_by_role("link", name="Clusters", exact=True).click()
    _click(page, "Create a cluster")
    page.locator("dialog").get_by_label("Name").fill("by mouse")
    page.get_by_text("The same with curl").last.click()
    _runs_as_curl(page.locator("dialog .curl pre").inner_text(), stack)
    _submit(page)
    page.get_by_role("heading", name="by mouse").wait_for()
    return str(page.url.rpartition("/")[2])


def _runs_as_curl(line: str, stack: EmbeddedStack) -> None:
    """The shown line does the same: it creates another cluster, which is terminated at once."""
    environment = {"PATH": os.environ["PATH"], "FLOW_NEXUS_API_KEY": stack.api_key}
    made = subprocess.run(["bash", "-c", line], env=environment, capture_output=True, text=True, timeout=60, check=True)
    cluster = json.loads(made.stdout)
    assert cluster["name"] == "by mouse"
    Walk(stack.url, stack.api_key).terminate(cluster["cluster_id"])


def _deploy(page: Any, *node_types: str) -> None:
    for node_type in node_types:
        _click(page, "Deploy a node")
        page.locator("dialog").get_by_label("Node type").select_option("" if node_type == "worker" else node_type)
        _submit(page)
    page.wait_for_selector(f".graph .node.good:nth-of-type(n) >> nth={len(node_types) - 1}")


def _connect(page: Any) -> None:
    _click(page, "Connect")
    _submit(page)
    page.locator(".facts").get_by_text("Connected").wait_for()


def _upload(page: Any, folder: Path) -> None:
    """Drag one file into the dialog, and choose the others."""
    _click(page, "Upload data")
    first = json.dumps(samples(160, 10_000))
    page.dispatch_event(".drop", "drop", {"dataTransfer": page.evaluate_handle(_DROP, [first, "train_1.json"])})
    contents = {"train_2.json": samples(160, 20_000), "validation.json": samples(60, 90_000), "test.json": samples(80, 95_000)}
    page.set_input_files("#files", [save(folder, name, json.dumps(rows).encode()) for name, rows in contents.items()])
    chosen = [page.locator(f"#node-{index}").input_value().split("_")[1] for index in range(4)]
    assert chosen[0] != chosen[1]
    assert [name[0] for name in chosen] == ["w", "w", "p", "p"]
    page.locator("dialog footer button.primary").click()
    page.locator("dialog .badge", has_text="Uploaded").nth(3).wait_for()
    page.get_by_role("button", name="Done").click()


def _train_and_watch(page: Any) -> str:
    """Start a training and see its rounds arrive without a reload."""
    _click(page, "Train")
    page.locator("dialog").get_by_label("Epochs (required)").fill("200")
    page.locator("dialog").get_by_label("Batch size").fill("16")
    _submit(page)
    page.wait_for_selector('main[data-path^="/trainings/"]')
    page.evaluate("window.neverReloaded = true")
    page.get_by_text(re.compile("Round 2 is done")).wait_for()
    page.wait_for_selector("fn-lines path.line")
    page.wait_for_selector("fn-bars rect")
    assert page.locator(".stat", has_text="Epoch").first.locator("dd").inner_text().endswith("/ 200")
    assert page.evaluate("window.neverReloaded")
    if "SCREENSHOTS" in os.environ:
        page.get_by_text(re.compile("Round 6 is done")).wait_for(timeout=300_000)
        picture(page, "walkthrough-training")
    return str(page.url.rpartition("/")[2])


def _stop_and_resume(page: Any, walk: Walk, training_id: str) -> None:
    _click(page, "Stop")
    _submit(page)
    page.locator(".facts").get_by_text("Stopped").wait_for()
    done = walk.call("GET", f"/v1/trainings/{training_id}")["completed_rounds"]
    _click(page, "Resume")
    page.locator("dialog").get_by_label("Epochs").fill("2")
    _submit(page)
    page.locator(".facts").get_by_text("Completed").wait_for()
    assert walk.call("GET", f"/v1/trainings/{training_id}")["completed_rounds"] == done + 2


def _predict(page: Any) -> None:
    page.get_by_label("Texts, one a line").fill("the kettle is great\nthe radio is broken")
    _click(page, "Predict")
    page.locator(".results tbody tr").nth(1).wait_for()
    assert {badge.inner_text() for badge in page.locator(".results .badge").all()} <= {"Positive", "Negative"}
    _click(page, "A file")
    page.get_by_label("Which models answer").select_option("ensemble")
    _click(page, "Predict")
    page.locator(".results").get_by_text("Accuracy").wait_for()
    page.locator(".results").get_by_text("True label").first.wait_for()


def _export_and_download(page: Any, folder: Path) -> None:
    _click(page, "Export the model")
    page.locator("dialog").get_by_label("Name").fill("by_mouse_v1")
    _submit(page)
    page.locator(".facts").get_by_text("Completed").wait_for()
    with page.expect_download() as download:
        _click(page, "Download")
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    assert path.name == "by_mouse_v1.tar"
    with tarfile.open(path) as archive:
        assert any(name.endswith("model.safetensors") for name in archive.getnames())


def _terminate(page: Any, cluster_id: str, walk: Walk) -> None:
    """Nothing happens before the question is answered."""
    _click(page, "Terminate")
    page.locator("dialog").get_by_role("button", name="Cancel").click()
    assert walk.call("GET", f"/v1/clusters/{cluster_id}")["status"] == "connected"
    _click(page, "Terminate")
    _submit(page)
    page.locator(".facts").get_by_text("Terminated").wait_for()
