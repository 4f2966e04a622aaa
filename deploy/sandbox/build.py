"""Build the sandbox templates: `python deploy/sandbox/build.py`.

They are built at E2B, or at another host of its protocol. The script reads E2B_API_KEY. It reads
E2B_DOMAIN or E2B_API_URL where the host is not E2B's own cloud.

A template holds Python with the `sandbox` extra of pyproject.toml, node, tar, and the agent's code
below /opt/flow-nexus. Both templates have the same content. The name tells the control plane which
language `execute` takes.

Its start command is an agent that waits for its configuration file. E2B starts it once, when it
builds the template, and then stores the memory. So each new sandbox has a ready agent at once.
"""

import argparse
import tomllib
from pathlib import Path

from e2b import Template, default_build_logger, wait_for_file
from e2b.template.main import TemplateFinal

ROOT = Path(__file__).resolve().parents[2]
AGENT_ROOT = "/opt/flow-nexus"
FOLDERS = "/data /model /export"
CONFIG_PATH = "/run/flow-nexus/agent.json"
READY_PATH = "/home/user/.agent-waits"
START_COMMAND = f"exec python -m workers.agent --wait --ready {READY_PATH} --config {CONFIG_PATH}"
TEMPLATES = ("python", "nodejs")
# Python reads this file at every start. Environment variables of a template end with its build.
PATH_FILE = "$(python -c 'import sysconfig; print(sysconfig.get_path(\"purelib\"))')/flow_nexus.pth"


def agent_requirements() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements: list[str] = project["optional-dependencies"]["sandbox"]
    return requirements


def make_template(python: str, torch_index: str | None) -> TemplateFinal:
    """Return the template, with torch from the package index `torch_index` if that is given.

    An index with CPU builds of torch makes the template much smaller: they are a tenth of the size.
    """
    torch = [requirement for requirement in agent_requirements() if requirement.startswith("torch")]
    others = [requirement for requirement in agent_requirements() if requirement not in torch]
    index = f"--index-url '{torch_index}' " if torch_index else ""
    return (
        Template(file_context_path=ROOT, file_ignore_patterns=["**/__pycache__"])
        .from_python_image(python)
        .set_user("root")
        .apt_install(["nodejs", "tar"])
        .run_cmd(f"pip install --no-cache-dir {index}{' '.join(torch)}")
        .run_cmd("pip install --no-cache-dir " + " ".join(f"'{requirement}'" for requirement in others))
        .copy("workers/__init__.py", f"{AGENT_ROOT}/workers/")
        .copy("workers/agent", f"{AGENT_ROOT}/workers/agent")
        .run_cmd(f'echo {AGENT_ROOT} > "{PATH_FILE}"')
        .run_cmd(f"mkdir -p {FOLDERS} && chown user:user {FOLDERS}")
        .run_cmd("python -c 'import torch, transformers, workers.agent.protocol' && node --version")
        .set_user("user")
        .set_workdir("/home/user")
        .set_start_cmd(START_COMMAND, wait_for_file(READY_PATH))
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the sandbox templates of Flow Nexus at E2B.")
    parser.add_argument("--prefix", default="flow-nexus-", help="FLOW_NEXUS_TEMPLATE_PREFIX of the deployment")
    parser.add_argument("--python", default="3.11-slim", help="tag of the Python image")
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--memory-mb", type=int, default=4096)
    parser.add_argument("--torch-index", help="package index with CPU builds of torch; by default pip's own")
    parser.add_argument("--dry-run", action="store_true", help="print the Dockerfile and build nothing")
    options = parser.parse_args()
    template = make_template(options.python, options.torch_index)
    if options.dry_run:
        print(Template.to_dockerfile(template))
        return
    for name in TEMPLATES:
        Template.build(
            template,
            options.prefix + name,
            cpu_count=options.cpus,
            memory_mb=options.memory_mb,
            on_build_logs=default_build_logger(),
        )


if __name__ == "__main__":
    main()
